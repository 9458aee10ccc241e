//! What `deploy/` ships: every configuration is sound, the files parse and agree with each other, everything is confined.
//!
//! No image is built and no cluster is there; what cannot be run is at least held to what it promises.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).unwrap()
}

/// The documents of a YAML file, read by Python's YAML.
fn yaml(path: &Path) -> Result<Vec<Value>, String> {
    let program = "import json,sys,yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let mut last = String::new();
    for python in ["python3", "/usr/bin/python3"] {
        let Ok(done) = Command::new(python).args(["-c", program]).arg(path).output() else { continue };
        if done.status.success() {
            return serde_json::from_slice(&done.stdout).map_err(|error| error.to_string());
        }
        last = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!last.contains("No module named 'yaml'") || python != "/usr/bin/python3", "run scripts/setup: {last}");
    }
    Err(last)
}

#[test]
fn every_shipped_configuration_is_sound() {
    let shipped = ["compose/pinfold.toml", "kubernetes/pinfold.toml", "systemd/pinfold.toml"];
    for name in shipped {
        let check = |path: &Path| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_pinfold"));
            command.args(["config", "check", "--offline", "--config"]).arg(path).output().unwrap()
        };
        let done = check(&deploy(name));
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        // The check itself: one misspelt key, one option that breaks exactly-once.
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("pinfold.toml");
        for (from, to) in [("key_file", "keyfile"), ("group = ", "grup = "), ("brokers = [", "x = [")] {
            if text(name).contains(from) {
                std::fs::write(&broken, text(name).replacen(from, to, 1)).unwrap();
                assert_eq!(check(&broken).status.code(), Some(2), "{name}: {to}");
            }
        }
    }
}

/// What a container may not do, or may: missing is said by name.
fn unconfined(pod: &Value, container: &Value) -> Vec<&'static str> {
    let own = &container["securityContext"];
    let wanted = [
        ("runAsNonRoot", own["runAsNonRoot"] == true && pod["securityContext"]["runAsNonRoot"] == true),
        ("runAsUser", pod["securityContext"]["runAsUser"].as_u64().is_some_and(|user| user > 0)),
        ("readOnlyRootFilesystem", own["readOnlyRootFilesystem"] == true),
        ("allowPrivilegeEscalation", own["allowPrivilegeEscalation"] == false),
        ("capabilities", own["capabilities"]["drop"] == serde_json::json!(["ALL"])),
        ("seccompProfile", pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"),
        ("resources", container["resources"]["limits"]["memory"].is_string()),
    ];
    wanted.into_iter().filter(|(_, holds)| !holds).map(|(name, _)| name).collect()
}

/// The value of `key` in a table of a shipped configuration.
fn configured(name: &str, table: &str, key: &str) -> String {
    let config: toml::Table = toml::from_str(&text(name)).unwrap();
    config[table][key].as_str().unwrap().to_owned()
}

#[test]
fn the_manifests_are_confined_and_agree_with_their_configuration() {
    let documents = yaml(&deploy("kubernetes/pinfold.yaml")).unwrap();
    let set = documents.iter().find(|document| document["kind"] == "StatefulSet").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!(set["spec"]["replicas"], 1, "a log has one writer");
    let (init, main) = (&pod["initContainers"][0], &pod["containers"][0]);
    for container in [init, main] {
        assert_eq!(unconfined(pod, container), [] as [&str; 0]);
    }
    let mut loose = main.clone();
    loose["securityContext"]["readOnlyRootFilesystem"] = false.into();
    assert_eq!(unconfined(pod, &loose), ["readOnlyRootFilesystem"], "the check sees it");

    let origin = configured("kubernetes/pinfold.toml", "log", "origin");
    assert_eq!(init["args"], serde_json::json!(["init", "/var/lib/pinfold", "--if-absent", "--origin", origin]));
    assert_eq!(main["startupProbe"]["exec"]["command"], serde_json::json!(["pinfold", "health"]));
    assert_eq!(main["livenessProbe"]["httpGet"]["path"], "/livez");
    assert_eq!(main["readinessProbe"]["httpGet"]["path"], "/readyz");
    let port = main["ports"][0]["containerPort"].to_string();
    assert!(configured("kubernetes/pinfold.toml", "http", "health_listen").ends_with(&format!(":{port}")));
    let volumes = pod["volumes"].as_array().unwrap();
    let secret = volumes.iter().find(|volume| volume["name"] == "secrets").unwrap();
    assert_eq!(secret["secret"]["defaultMode"], 0o440);
    mounted(main, "kubernetes/pinfold.toml");
    mounted(init, "kubernetes/pinfold.toml");

    let kustomization = yaml(&deploy("kubernetes/kustomization.yaml")).unwrap().remove(0);
    for file in [&kustomization["resources"][0], &kustomization["configMapGenerator"][0]["files"][0]] {
        assert!(deploy("kubernetes").join(file.as_str().unwrap()).is_file(), "{file}");
    }
}

/// Data, heads and keyring of a configuration are on volumes of their own.
fn mounted(container: &Value, config: &str) {
    let mounts: Vec<&str> = match &container["volumeMounts"] {
        Value::Array(mounts) => mounts.iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect(),
        _ => container["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|at| at.as_str().unwrap().split(':').nth(1).unwrap())
            .collect(),
    };
    for path in
        [configured(config, "log", "data"), configured(config, "log", "heads"), configured(config, "keyring", "path")]
    {
        assert!(mounts.contains(&path.as_str()), "{path} is on no volume of its own: {mounts:?}");
    }
}

#[test]
fn the_composition_is_confined_and_agrees_with_its_configuration() {
    let composed = yaml(&deploy("compose.yaml")).unwrap().remove(0);
    let services = &composed["services"];
    for name in ["init", "pinfold"] {
        let service = &services[name];
        assert_eq!((&service["read_only"], &service["user"]), (&true.into(), &"10001:10001".into()), "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        mounted(service, "compose/pinfold.toml");
        assert!(deploy("..").join(service["build"]["dockerfile"].as_str().unwrap()).is_file());
    }
    assert_eq!(services["init"]["command"][4], configured("compose/pinfold.toml", "log", "origin"));
    let config: toml::Table = toml::from_str(&text("compose/pinfold.toml")).unwrap();
    let broker = config["source"]["redpanda"]["brokers"][0].as_str().unwrap();
    assert!(services.get(broker.split(':').next().unwrap()).is_some(), "{broker} is a service");
    let topics: Vec<&str> = config["source"]["redpanda"]["topic"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| topic["name"].as_str().unwrap())
        .collect();
    for topic in topics {
        assert!(services["topics"]["command"].as_array().unwrap().contains(&topic.into()), "{topic} is made");
    }
    assert!(yaml(&deploy("Dockerfile")).is_err(), "what is no YAML is seen");
}

#[test]
fn the_image_is_built_from_what_is_there_and_is_not_root() {
    let file = text("Dockerfile");
    let (build, image) = file.split_once("\nFROM debian").unwrap();
    let user = image.lines().rfind(|line| line.starts_with("USER ")).unwrap();
    assert_eq!(user, "USER 10001:10001");
    let manifest = include_str!("../../Cargo.toml");
    assert!(build.contains("--features portable") && manifest.contains("\nportable ="));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied: Vec<&str> = build.lines().filter_map(|line| line.strip_prefix("COPY ")).collect();
    let ignored = text("Dockerfile.dockerignore");
    for source in copied.iter().flat_map(|line| line.split(' ').rev().skip(1)) {
        assert!(root.join(source).exists(), "{source}");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is in the build's context");
    }
    // Every target of the manifest is copied: cargo looks for them all.
    for target in manifest.lines().filter_map(|line| line.strip_prefix("path = \"")) {
        let target = target.trim_end_matches('"');
        assert!(copied.iter().any(|line| line.contains(target)), "{target}");
    }
}

/// What systemd finds wrong with a unit that runs the program of these tests.
fn verify_unit(unit: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pinfold.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/pinfold", env!("CARGO_BIN_EXE_pinfold"))).unwrap();
    let run = |args: &[&str]| {
        let done = Command::new("systemd-analyze").args(args).arg(&path).output();
        let done = done.expect("systemd-analyze: run scripts/setup");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { said } else { format!("{said} exit {:?}", done.status.code()) }
    };
    run(&["verify", "--man=no"]) + &run(&["security", "--offline=true", "--threshold=20", "--no-pager"])
}

#[test]
fn the_unit_passes_systemd_and_is_confined() {
    let unit = text("systemd/pinfold.service");
    assert_eq!(verify_unit(&unit), "");
    let misspelt = unit.replace("ProtectSystem=", "ProtectSytem=");
    assert!(verify_unit(&misspelt).contains("ProtectSytem"), "systemd sees a misspelt directive");
    let open: String = unit
        .lines()
        .filter(|line| !line.starts_with("Protect") && !line.starts_with("Cap"))
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(verify_unit(&open).contains("exit"), "and a unit that is too open");
    // The exit codes that every start repeats (surface.md).
    assert!(unit.contains("RestartPreventExitStatus=2 4") && unit.contains("ExecReload=/bin/kill -HUP"));
}

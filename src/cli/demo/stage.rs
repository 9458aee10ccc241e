//! Runs the demo's commands, shows them as they would be typed, and holds them to what they must answer.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::super::Failure;
use super::super::output::Output;

/// Where the demo plays.
pub(super) struct Stage {
    binary: PathBuf,
    dir: PathBuf,
    output: Output,
    commands: RefCell<Vec<Value>>,
}

impl Stage {
    /// In `dir`, which `init` makes.
    pub(super) fn new(dir: &Path, output: Output) -> Result<Stage, Failure> {
        let binary = std::env::current_exe()
            .map_err(|e| Failure::new(3, "demo", format!("finding the program of this process: {e}")))?;
        Ok(Stage { binary, dir: dir.to_path_buf(), output, commands: RefCell::default() })
    }

    /// A file of the stage.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The commands so far, with their exit codes.
    pub(super) fn commands(&self) -> Vec<Value> {
        self.commands.borrow().clone()
    }

    pub(super) fn title(&self, text: &str) {
        self.print(&format!("\n== {text}"));
    }

    pub(super) fn say(&self, text: &str) {
        self.print(text);
    }

    /// A command of the shell that the demo does itself.
    pub(super) fn shell(&self, command: &str) {
        self.print(&format!("$ {command}"));
    }

    /// Output, indented.
    pub(super) fn quote(&self, text: &str) {
        for line in text.lines() {
            self.print(&format!("    {line}"));
        }
    }

    /// Nothing depends on what is shown, and a closed pipe is the reader's choice.
    fn print(&self, text: &str) {
        if !self.output.is_json() {
            let _ = self.output.line(text);
        }
    }

    pub(super) fn append(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        let file = std::fs::OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| Failure::file("writing", &path, &e))
    }

    /// Makes the log, from outside its directory.
    pub(super) fn init(&self, origin: &str) -> Result<(), Failure> {
        let dir = self.dir.display().to_string();
        self.shell(&format!("pinfold init {dir} --origin {origin}"));
        self.command(Path::new("."), &["init", &dir, "--origin", origin], 0).map(|text| self.quote(&text))?;
        self.shell(&format!("cd {dir}"));
        Ok(())
    }

    /// Shows a command and its output; it must exit with `exit`.
    pub(super) fn run(&self, args: &[&str], exit: i32) -> Result<String, Failure> {
        self.shell(&shown(args));
        let text = self.command(&self.dir, args, exit)?;
        self.quote(&text);
        if exit != 0 {
            self.quote(&format!("(exit {exit})"));
        }
        Ok(text)
    }

    /// Shows a command; gives its answer as JSON, for the caller to show what matters of it.
    pub(super) fn ask(&self, args: &[&str], exit: i32) -> Result<Value, Failure> {
        self.shell(&shown(args));
        let value = self.ask_silently(args, exit)?;
        if exit != 0 {
            self.quote(&format!("(exit {exit})"));
        }
        Ok(value)
    }

    /// The answer of a command as JSON.
    pub(super) fn ask_silently(&self, args: &[&str], exit: i32) -> Result<Value, Failure> {
        let text = self.command(&self.dir, &[args, &["--json"]].concat(), exit)?;
        let line = text.lines().next().unwrap_or_default();
        serde_json::from_str(line).map_err(|_| self.failed(&format!("`{}` answers with JSON", shown(args))))
    }

    /// Ends the demo where something is not as it must be.
    pub(super) fn must(&self, what: &str, holds: bool) -> Result<(), Failure> {
        if holds { Ok(()) } else { Err(self.failed(what)) }
    }

    pub(super) fn failed(&self, what: &str) -> Failure {
        Failure::new(70, "demo", format!("the demo did not go as it must: expected that {what}"))
            .hint(format!("this is a bug; what was made is in {}", self.dir.display()))
    }

    /// Runs this program; the environment is left out, so that no variable changes the story.
    fn command(&self, dir: &Path, args: &[&str], exit: i32) -> Result<String, Failure> {
        let mut command = Command::new(&self.binary);
        command.args(args).current_dir(dir).env_clear().stdin(Stdio::null());
        let done = command.output().map_err(|e| Failure::file("running", &self.binary, &e))?;
        let code = done.status.code().unwrap_or(-1);
        self.commands.borrow_mut().push(serde_json::json!({ "command": shown(args), "exit": code }));
        if code != exit {
            self.quote(&String::from_utf8_lossy(&done.stdout));
            self.quote(&String::from_utf8_lossy(&done.stderr));
            return Err(self.failed(&format!("`{}` exits with {exit}, and it was {code}", shown(args))));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

/// A command as it is typed.
fn shown(args: &[&str]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@".contains(c);
    let word = |arg: &&str| if arg.chars().all(is_plain) { (*arg).to_owned() } else { format!("'{arg}'") };
    format!("pinfold {}", args.iter().map(word).collect::<Vec<_>>().join(" "))
}

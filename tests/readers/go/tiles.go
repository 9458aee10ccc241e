package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkTiles reads a directory of c2sp.org/tlog-tiles: the checkpoint opened with sumdb/note, every tile checked against
// its root by sumdb/tlog, every entry hashed to its place. It prints "SIZE ROOT", then proofs it made from the tiles and
// checked: "inclusion INDEX HASH..." and "consistency OLD HASH...".
func checkTiles(vkey, dir string, inclusions, consistencies int64) error {
	signed, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	size, root, err := openCheckpoint(vkey, signed)
	if err != nil {
		return err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, &tileDir{dir})
	if found, err := tlog.TreeHash(size, reader); err != nil || found != root {
		return fmt.Errorf("root %v, the tiles give %v: %v", root, found, err)
	}
	leaves, err := readEntries(dir, size)
	if err != nil {
		return err
	}
	if err := checkEntries(leaves, size, root); err != nil {
		return err
	}
	fmt.Println(size, root)
	for i := int64(0); i < inclusions; i++ {
		index := spread(i, size)
		proof, err := tlog.ProveRecord(size, index, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, size, root, index, leaves[index]); err != nil {
			return err
		}
		printProof("inclusion", index, proof)
	}
	for i := int64(0); i < consistencies; i++ {
		old := spread(i, size) + 1
		oldRoot, err := tlog.TreeHash(old, reader)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, size, root, old, oldRoot); err != nil {
			return err
		}
		printProof("consistency", old, proof)
	}
	return nil
}

// spread chooses numbers below end, both edges among them.
func spread(i, end int64) int64 {
	switch i {
	case 0:
		return 0
	case 1:
		return end - 1
	}
	return int64((uint64(i) * 0x9e3779b97f4a7c15 >> 11) % uint64(end))
}

func printProof(what string, number int64, proof []tlog.Hash) {
	hashes := make([]string, len(proof))
	for i, hash := range proof {
		hashes[i] = hash.String()
	}
	fmt.Println(what, number, strings.Join(hashes, " "))
}

func openCheckpoint(vkey string, signed []byte) (int64, tlog.Hash, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return 0, tlog.Hash{}, fmt.Errorf("not a checkpoint of %s: %q", verifier.Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return size, root, err
}

// readEntries hashes every entry of every bundle.
func readEntries(dir string, size int64) ([]tlog.Hash, error) {
	var leaves []tlog.Hash
	for n := int64(0); n*256 < size; n++ {
		tile := tlog.Tile{H: 8, L: 0, N: n, W: int(min(256, size-n*256))}
		path := filepath.Join(dir, "tile", "entries", strings.TrimPrefix(tile.Path(), "tile/8/0/"))
		bundle, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for len(bundle) > 0 {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("%s: ends inside an entry", path)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			leaves = append(leaves, tlog.RecordHash(bundle[2:end]))
			bundle = bundle[end:]
		}
		if int64(len(leaves)) != n*256+int64(tile.W) {
			return nil, fmt.Errorf("%s: another number of entries than its width", path)
		}
	}
	return leaves, nil
}

// checkEntries computes the root anew from the entries alone.
func checkEntries(leaves []tlog.Hash, size int64, root tlog.Hash) error {
	var hashes hashStorage
	for i, leaf := range leaves {
		stored, err := tlog.StoredHashesForRecordHash(int64(i), leaf, &hashes)
		if err != nil {
			return err
		}
		hashes = append(hashes, stored...)
	}
	found, err := tlog.TreeHash(size, &hashes)
	if err == nil && found != root {
		err = fmt.Errorf("root %v, the entries give %v", root, found)
	}
	return err
}

// tileDir gives the tiles of a directory to sumdb/tlog, whose own paths have the height in front.
type tileDir struct{ dir string }

func (t *tileDir) Height() int { return 8 }

func (t *tileDir) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range tiles {
		path := filepath.Join(t.dir, "tile", strings.TrimPrefix(tile.Path(), "tile/8/"))
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s: %d bytes", path, len(data))
		}
		read = append(read, data)
	}
	return read, nil
}

func (t *tileDir) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

// checkProof checks a c2sp.org/tlog-proof against the leaf it carries, with nothing of ours.
func checkProof(vkey, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, checkpoint, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a tlog-proof")
	}
	extra, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	leaf, err := leafOf(extra)
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	var proof tlog.RecordProof
	for _, line := range lines[3:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	size, root, err := openCheckpoint(vkey, checkpoint)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, size, root, index, tlog.RecordHash(leaf)); err != nil {
		return err
	}
	fmt.Println(index, size, root)
	return nil
}

// leafOf reads the leaf out of the extra of a proof: DAG-CBOR with the bytes under "leaf".
func leafOf(extra []byte) ([]byte, error) {
	builder := basicnode.Prototype.Any.NewBuilder()
	if err := dagcbor.Decode(builder, bytes.NewReader(extra)); err != nil {
		return nil, err
	}
	leaf, err := builder.Build().LookupByString("leaf")
	if err != nil {
		return nil, err
	}
	return leaf.AsBytes()
}

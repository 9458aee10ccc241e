// Command reader reads what Pinfold wrote with libraries by others: it shares no code with Pinfold.
//
//	reader car FILE...                  every block hashed, one root, the root first; prints "ROOT BLOCKS" a file
//	reader checkpoint VKEY FILE...      the checkpoint of each .proof.car opened with sumdb/note, its root with sumdb/tlog
//	reader tiles VKEY DIR N M           a tlog-tiles directory: root, entries, N inclusion and M consistency proofs
//	reader proof VKEY FILE...           a .tlog-proof; prints "INDEX SIZE ROOT" a file
//
// The second prints "SIZE ROOT" a file, and checks that each tree continues the one before: the leaves of the pages,
// hashed as RFC 6962 says, give the signed root.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/ipfs/go-cid"
	"github.com/ipld/go-car/v2"
	"github.com/ipld/go-ipld-prime/codec/dagcbor"
	"github.com/ipld/go-ipld-prime/datamodel"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/ipld/go-ipld-prime/node/basicnode"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) < 3 {
		fail(errors.New("usage: reader car | checkpoint | tiles | proof ARGUMENTS"))
	}
	switch os.Args[1] {
	case "car":
		for _, file := range os.Args[2:] {
			root, blocks, err := readCar(file)
			if err != nil {
				fail(fmt.Errorf("%s: %w", file, err))
			}
			fmt.Println(root, len(blocks))
		}
	case "checkpoint":
		if err := readCheckpoints(os.Args[2], os.Args[3:]); err != nil {
			fail(err)
		}
	case "tiles":
		if len(os.Args) != 6 {
			fail(errors.New("usage: reader tiles VKEY DIR N M"))
		}
		inclusions, err := strconv.ParseInt(os.Args[4], 10, 64)
		if err != nil {
			fail(err)
		}
		consistencies, err := strconv.ParseInt(os.Args[5], 10, 64)
		if err != nil {
			fail(err)
		}
		if err := checkTiles(os.Args[2], os.Args[3], inclusions, consistencies); err != nil {
			fail(err)
		}
	case "proof":
		for _, file := range os.Args[3:] {
			if err := checkProof(os.Args[2], file); err != nil {
				fail(fmt.Errorf("%s: %w", file, err))
			}
		}
	default:
		fail(fmt.Errorf("unknown command %q", os.Args[1]))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

// readCar reads a whole CAR. NewBlockReader hashes every block; a CAR cut on a block boundary passes it, so the caller
// of a proof CAR follows the links.
func readCar(file string) (cid.Cid, map[cid.Cid][]byte, error) {
	source, err := os.Open(file)
	if err != nil {
		return cid.Undef, nil, err
	}
	defer source.Close()
	reader, err := car.NewBlockReader(source)
	if err != nil {
		return cid.Undef, nil, err
	}
	if reader.Version != 1 || len(reader.Roots) != 1 {
		return cid.Undef, nil, fmt.Errorf("version %d with %d roots", reader.Version, len(reader.Roots))
	}
	root := reader.Roots[0]
	blocks := map[cid.Cid][]byte{}
	for {
		block, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return cid.Undef, nil, err
		}
		if len(blocks) == 0 && block.Cid() != root {
			return cid.Undef, nil, fmt.Errorf("the first block is %s", block.Cid())
		}
		if _, twice := blocks[block.Cid()]; twice {
			return cid.Undef, nil, fmt.Errorf("block %s twice", block.Cid())
		}
		blocks[block.Cid()] = block.RawData()
	}
	if _, found := blocks[root]; !found {
		return cid.Undef, nil, errors.New("no root block")
	}
	return root, blocks, nil
}

// readCheckpoints reads proof CARs in the order of their segments.
func readCheckpoints(vkey string, files []string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	var hashes hashStorage
	var size int64
	for _, file := range files {
		root, blocks, err := readCar(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if size, err = readSegment(verifier, blocks, root, size, &hashes); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// readSegment adds the leaves of one segment to the tree and compares it with the signed one. A checkpoint signed by
// another key of the log (after a rotation) is compared all the same; it says so.
func readSegment(verifier note.Verifier, blocks map[cid.Cid][]byte, root cid.Cid, size int64, hashes *hashStorage) (int64, error) {
	seal, err := decode(blocks, root)
	if err != nil {
		return 0, err
	}
	index, err := follow(blocks, seal, "leaves")
	if err != nil {
		return 0, err
	}
	for pages := index.ListIterator(); !pages.Done(); {
		_, entry, err := pages.Next()
		if err != nil {
			return 0, err
		}
		link, err := entry.LookupByIndex(1)
		if err != nil {
			return 0, err
		}
		page, err := decodeLink(blocks, link)
		if err != nil {
			return 0, err
		}
		for leaves := page.ListIterator(); !leaves.Done(); {
			_, leaf, err := leaves.Next()
			if err != nil {
				return 0, err
			}
			var stored bytes.Buffer
			if err := dagcbor.Encode(leaf, &stored); err != nil {
				return 0, err
			}
			added, err := tlog.StoredHashes(size, stored.Bytes(), hashes)
			if err != nil {
				return 0, err
			}
			*hashes = append(*hashes, added...)
			size++
		}
	}
	return size, compare(verifier, seal, size, hashes)
}

func compare(verifier note.Verifier, seal datamodel.Node, size int64, hashes *hashStorage) error {
	field, err := seal.LookupByString("checkpoint")
	if err != nil {
		return err
	}
	text, err := field.AsString()
	if err != nil {
		return err
	}
	by := "signed"
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	var other *note.UnverifiedNoteError
	switch {
	case errors.As(err, &other):
		opened, by = other.Note, "signed-by-another-key"
	case err != nil:
		return err
	}
	// go.sum database tree, with the log's origin in place of its own first line: the same three lines.
	lines := bytes.Split([]byte(opened.Text), []byte("\n"))
	if len(lines) != 4 || string(lines[0]) != verifier.Name() {
		return fmt.Errorf("not a checkpoint of %s: %q", verifier.Name(), opened.Text)
	}
	rest := append([]byte("go.sum database tree\n"), bytes.Join(lines[1:], []byte("\n"))...)
	tree, err := tlog.ParseTree(rest)
	if err != nil {
		return err
	}
	found, err := tlog.TreeHash(size, hashes)
	if err != nil {
		return err
	}
	if tree.N != size || tree.Hash != found {
		return fmt.Errorf("signed %d %s, recomputed %d %s", tree.N, tree.Hash, size, found)
	}
	fmt.Println(tree.N, tree.Hash, by)
	return nil
}

func follow(blocks map[cid.Cid][]byte, node datamodel.Node, field string) (datamodel.Node, error) {
	link, err := node.LookupByString(field)
	if err != nil {
		return nil, err
	}
	return decodeLink(blocks, link)
}

func decodeLink(blocks map[cid.Cid][]byte, node datamodel.Node) (datamodel.Node, error) {
	link, err := node.AsLink()
	if err != nil {
		return nil, err
	}
	return decode(blocks, link.(cidlink.Link).Cid)
}

func decode(blocks map[cid.Cid][]byte, at cid.Cid) (datamodel.Node, error) {
	block, found := blocks[at]
	if !found {
		return nil, fmt.Errorf("block %s is missing", at)
	}
	builder := basicnode.Prototype.Any.NewBuilder()
	if err := dagcbor.Decode(builder, bytes.NewReader(block)); err != nil {
		return nil, err
	}
	return builder.Build(), nil
}

// hashStorage keeps the tree's hashes in the order of tlog.StoredHashIndex.
type hashStorage []tlog.Hash

func (h *hashStorage) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		hashes[i] = (*h)[index]
	}
	return hashes, nil
}

// Verifies what the agent signs and exports, with an implementation of transparency logs that is not ours.
//
//	tlog tiles KEY DIR                  an export: checkpoints, tiles, entries, inclusion and consistency proofs
//	tlog proof KEY FILE                 a file in the format of C2SP tlog-proof
//
// It prints what was verified, and ends with 1 if something is wrong.
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

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Height of the tiles of C2SP tlog-tiles.
const tileHeight = 8

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tlog:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: tlog tiles|proof KEY PATH")
	}
	verifier, err := note.NewVerifier(args[1])
	if err != nil {
		return err
	}
	keys := note.VerifierList(verifier)
	switch args[0] {
	case "tiles":
		return verifyTiles(keys, args[2])
	case "proof":
		return verifyProof(keys, args[2])
	}
	return fmt.Errorf("unknown command %q", args[0])
}

type checkpoint struct {
	origin string
	tree   tlog.Tree
}

// open verifies the signature of a note and parses its checkpoint.
func open(keys note.Verifiers, text string) (checkpoint, error) {
	opened, err := note.Open([]byte(text), keys)
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return checkpoint{}, fmt.Errorf("a checkpoint has three lines, not %d", len(lines)-1)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return checkpoint{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return checkpoint{}, err
	}
	return checkpoint{lines[0], tlog.Tree{N: size, Hash: root}}, nil
}

// splitNotes splits notes that follow each other: each one ends with its signatures.
func splitNotes(text string) []string {
	var notes []string
	begin, signed := 0, false
	at := 0
	for _, line := range strings.SplitAfter(text, "\n") {
		isSignature := strings.HasPrefix(line, "— ")
		if signed && !isSignature {
			notes = append(notes, text[begin:at])
			begin, signed = at, false
		}
		signed = signed || isSignature
		at += len(line)
	}
	if signed {
		notes = append(notes, text[begin:])
	}
	return notes
}

// tileReader reads tiles of an export. Its paths differ from those of the checksum database, which have the height.
type tileReader struct{ dir string }

func (reader tileReader) Height() int { return tileHeight }

func (reader tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (reader tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", tileHeight), "tile/", 1)
		bytes, err := os.ReadFile(filepath.Join(reader.dir, path))
		if err != nil {
			return nil, err
		}
		data = append(data, bytes)
	}
	return data, nil
}

func verifyTiles(keys note.Verifiers, dir string) error {
	latest, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return err
	}
	last, err := open(keys, string(latest))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	// Verifies each hash against the root.
	hashes := tlog.TileHashReader(last.tree, tileReader{dir})
	leaves, err := readLeaves(dir, last.tree.N)
	if err != nil {
		return err
	}
	for number, leaf := range leaves {
		index := tlog.StoredHashIndex(0, int64(number))
		stored, err := hashes.ReadHashes([]int64{index})
		if err != nil {
			return fmt.Errorf("hash of entry %d: %w", number, err)
		}
		if stored[0] != leaf {
			return fmt.Errorf("entry %d does not have the hash of its tile", number)
		}
	}
	for number := int64(0); number < last.tree.N; number += 1 + last.tree.N/50 {
		proof, err := tlog.ProveRecord(last.tree.N, number, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, last.tree.N, last.tree.Hash, number, leaves[number]); err != nil {
			return fmt.Errorf("entry %d: %w", number, err)
		}
	}
	all, err := os.ReadFile(filepath.Join(dir, "checkpoints"))
	if err != nil {
		return err
	}
	notes := splitNotes(string(all))
	for number, text := range notes {
		older, err := open(keys, text)
		if err != nil {
			return fmt.Errorf("checkpoint %d: %w", number+1, err)
		}
		if older.origin != last.origin {
			return fmt.Errorf("checkpoint %d is of %q", number+1, older.origin)
		}
		if older.tree.N == 0 {
			continue
		}
		proof, err := tlog.ProveTree(last.tree.N, older.tree.N, hashes)
		if err != nil {
			return err
		}
		err = tlog.CheckTree(proof, last.tree.N, last.tree.Hash, older.tree.N, older.tree.Hash)
		if err != nil {
			return fmt.Errorf("checkpoint %d: %w", number+1, err)
		}
	}
	if len(notes) == 0 || notes[len(notes)-1] != string(latest) {
		return errors.New("checkpoint is not the last one of checkpoints")
	}
	fmt.Printf("%s: %d entries, %d checkpoints\n", last.origin, last.tree.N, len(notes))
	return nil
}

// readLeaves returns the hash of each entry.
func readLeaves(dir string, size int64) ([]tlog.Hash, error) {
	var leaves []tlog.Hash
	for first := int64(0); first < size; first += 256 {
		width := size - first
		if width > 256 {
			width = 256
		}
		tile := tlog.Tile{H: tileHeight, L: 0, N: first / 256, W: int(width)}
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/0/", tileHeight), "tile/entries/", 1)
		bundle, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return nil, err
		}
		for at := int64(0); at < width; at++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("%s ends in the middle of an entry", path)
			}
			length := int(binary.BigEndian.Uint16(bundle))
			leaves = append(leaves, tlog.RecordHash(bundle[2:2+length]))
			bundle = bundle[2+length:]
		}
		if len(bundle) > 0 {
			return nil, fmt.Errorf("%s has more than %d entries", path, width)
		}
	}
	return leaves, nil
}

func verifyProof(keys note.Verifiers, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, signed, found := bytes.Cut(text, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if !found || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("not a proof")
	}
	if !strings.HasPrefix(lines[1], "extra ") || !strings.HasPrefix(lines[2], "index ") {
		return errors.New("no entry or no index")
	}
	entry, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
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
	point, err := open(keys, string(signed))
	if err != nil {
		return err
	}
	leaf := tlog.RecordHash(entry)
	if err := tlog.CheckRecord(proof, point.tree.N, point.tree.Hash, index, leaf); err != nil {
		return err
	}
	fmt.Printf("%s: entry %d of %d\n", point.origin, index, point.tree.N)
	return nil
}

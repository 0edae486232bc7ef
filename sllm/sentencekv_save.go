package sllm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"svae/kernels/kv"
	"svae/vae"
)

// savedIDs begins the file of tokens beside saved rows: the magic, their number, the tokens and the SHA-256 of all that.
const savedIDs = "svae ids"

// maxSavedIDs bounds the tokens of a saved sequence.
const maxSavedIDs = 1 << 26

// Save writes the rows of a sequence to path and its tokens, of which rows are kept, to path.ids. Both files are replaced
// only once all is written.
func (k *SentenceKV) Save(c vae.KV, ids []int32, path string) error {
	x, ok := c.(*sentenceRows)
	if !ok || x.k != k || x.store == nil {
		return errors.New("save keys and values: no open KV of this SentenceKV")
	}
	if len(ids) != x.store.Len() || len(ids) > maxSavedIDs {
		return fmt.Errorf("save keys and values: %d tokens for %d rows (at most %d)", len(ids), x.store.Len(), maxSavedIDs)
	}
	b := binary.LittleEndian.AppendUint32([]byte(savedIDs), uint32(len(ids)))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	sum := sha256.Sum256(b)
	if err := replaceFile(path+".ids", append(b, sum[:]...)); err != nil {
		return err
	}
	return x.store.Save(path)
}

// replaceFile writes a file that appears under its name only once it is whole.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// Load remembers the rows that Save wrote, for requests that begin as that sequence did; KVOptions.Prefix must leave room
// for them. It returns their number. The rows of another model give kv.ErrModel, a damaged file kv.ErrFormat.
func (k *SentenceKV) Load(path string) (int, error) {
	if k.tree == nil {
		return 0, fmt.Errorf("%s: no room to remember rows (give --kv-prefix)", path)
	}
	ids, err := readIDs(path + ".ids")
	if err != nil {
		return 0, err
	}
	s, err := kv.Load(path, k.cfg, k.be, k.pool)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if s.Len() != len(ids) {
		return 0, fmt.Errorf("%s: %w: %d rows, but %d tokens in %s.ids", path, kv.ErrFormat, s.Len(), len(ids), path)
	}
	k.tree.Insert(s, ids)
	return len(ids), nil
}

// readIDs reads the tokens beside saved rows.
func readIDs(path string) ([]int32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bad := func(what string) ([]int32, error) { return nil, fmt.Errorf("%s: %w: %s", path, kv.ErrFormat, what) }
	head := make([]byte, len(savedIDs)+4)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(savedIDs)]) != savedIDs {
		return bad("no saved tokens")
	}
	n := int64(binary.LittleEndian.Uint32(head[len(savedIDs):]))
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if n > maxSavedIDs || st.Size() != int64(len(head))+4*n+sha256.Size {
		return bad(fmt.Sprintf("%d bytes for %d tokens", st.Size(), n))
	}
	b := make([]byte, 4*n+sha256.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if sum := sha256.Sum256(append(head, b[:4*n]...)); !bytes.Equal(sum[:], b[4*n:]) {
		return bad("another checksum")
	}
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return ids, nil
}

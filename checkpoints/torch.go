package checkpoints

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// readTorch reads a file of torch.save: a zip of ROOT/data.pkl, a pickle in which tensors are views of storages, and of
// ROOT/data/KEY, one raw storage each.
func readTorch(w *Weights, m *mapping) error {
	records, err := readZip(m)
	if err != nil {
		return err
	}
	root, err := torchRoot(records)
	if err != nil {
		return err
	}
	w.format = "pytorch"
	if err := checkByteOrder(records, root, m.data); err != nil {
		return err
	}
	pkl, err := records[root+"/data.pkl"].bytes(m.data)
	if err != nil {
		return err
	}
	if len(pkl) > maxPickle {
		return formatf("data.pkl of %d bytes exceeds the limit of %d", len(pkl), maxPickle)
	}
	if r := records[root+"/data.pkl"]; r.crc != 0 { // 0: PyTorch was told to save time
		if err := (&checksum{want: r.crc}).check(m, pkl); err != nil {
			return fmt.Errorf("data.pkl: %w", err)
		}
	}
	if _, _, err := scanPickle(pkl, 0, "data.pkl", 0); err != nil {
		return err
	}
	l := &torchLoader{m: m, root: root, records: records, storages: map[string]*torchStorage{}}
	value, err := decodePickle(pkl, l.storage, "data.pkl", 0)
	if err != nil {
		return err
	}
	m.release(m.data)
	return newTorchWalk(w, m).run(value)
}

// torchRoot returns the folder of the zip file that holds data.pkl.
func torchRoot(records map[string]*record) (string, error) {
	root, found := "", 0
	script := false
	for name := range records {
		if dir, ok := strings.CutSuffix(name, "/data.pkl"); ok && !strings.Contains(dir, "/") {
			root = dir
			found++
		}
		script = script || strings.HasSuffix(name, "/constants.pkl")
	}
	switch {
	case script:
		return "", formatf("a TorchScript program (load it in PyTorch and re-save its state_dict() with torch.save)")
	case found == 0:
		return "", formatf("a zip file without data.pkl, so not one of PyTorch (want what torch.save writes)")
	case found > 1:
		return "", formatf("a zip file with %d data.pkl", found)
	}
	return root, nil
}

func checkByteOrder(records map[string]*record, root string, data []byte) error {
	r, ok := records[root+"/byteorder"]
	if !ok {
		return nil // before PyTorch 2.1
	}
	order, err := r.bytes(data)
	if err != nil {
		return err
	}
	if string(order) != "little" {
		return formatf("byte order is %q (re-save it on a little-endian machine)", clip(string(order)))
	}
	return nil
}

// A torchLoader finds the storages of one zip file.
type torchLoader struct {
	m        *mapping
	root     string
	records  map[string]*record
	storages map[string]*torchStorage
}

// torchStorage is a storage as a pickle refers to it.
type torchStorage struct {
	key   string
	typ   *storageType
	count int // elements
	size  int // bytes
	data  []byte
	at    int // where data lies in the file
	sum   *checksum
}

// PySetState lets a storage be pickled with a state, which has no meaning here.
func (*torchStorage) PySetState(any) error { return nil }

// decodePickle runs a pickle that passed scanPickle, which bounds what is allocated. gopickle panics on malformed input, so a
// panic is an error here. What and base say in errors what the pickle is and where it begins.
func decodePickle(pkl []byte, persistent func(id any) (any, error), what string, base int) (value any, err error) {
	r := bytes.NewReader(pkl)
	defer func() {
		if p := recover(); p != nil {
			if _, fault := p.(interface{ Addr() uintptr }); fault {
				panic(p)
			}
			err = formatf("%s near %d: %s", what, base+len(pkl)-r.Len(), clip(fmt.Sprint(p)))
		}
	}()
	u := pickle.NewUnpickler(r)
	u.FindClass = findClass
	u.PersistentLoad = persistent
	value, err = u.Load()
	if err != nil {
		return nil, formatf("%s near %d: %s", what, base+len(pkl)-r.Len(), clip(err.Error()))
	}
	return value, nil
}

// parseStorage reads a persistent id: ("storage", type, key, device, number of elements).
func parseStorage(id any) (*torchStorage, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() < 5 || t.Get(0) != any("storage") {
		return nil, fmt.Errorf("persistent id is not a storage")
	}
	typ, ok1 := t.Get(1).(*storageType)
	key, ok2 := t.Get(2).(string)
	count, ok3 := t.Get(4).(int)
	if !ok1 || !ok2 || !ok3 {
		return nil, fmt.Errorf("storage %v of an unknown type (re-save the tensors as float32, float16 or bfloat16)", clip(fmt.Sprint(t.Get(2))))
	}
	return &torchStorage{key: key, typ: typ, count: count}, nil
}

// same returns an earlier description of a storage, which must agree with s.
func (s *torchStorage) same(earlier *torchStorage) (*torchStorage, error) {
	if s.typ.name != earlier.typ.name || s.count != earlier.count {
		return nil, fmt.Errorf("storage %q is described in two ways", clip(s.key))
	}
	return earlier, nil
}

// storage resolves a persistent id of a zip file.
func (l *torchLoader) storage(id any) (any, error) {
	s, err := parseStorage(id)
	if err != nil {
		return nil, err
	}
	key := s.key
	if earlier, ok := l.storages[key]; ok {
		return s.same(earlier)
	}
	r, ok := l.records[l.root+"/data/"+key]
	if !ok {
		return nil, fmt.Errorf("storage %q is missing from the file", clip(key))
	}
	data, err := r.bytes(l.m.data)
	if err != nil {
		return nil, err
	}
	if n, ok := product(s.count, s.typ.width); !ok || n != len(data) {
		return nil, fmt.Errorf("storage %q has %d bytes, %d elements of %s need another number", clip(key), len(data), s.count, s.typ.name)
	}
	s.data, s.size, s.at = data, len(data), r.data
	if r.crc != 0 {
		s.sum = &checksum{want: r.crc}
	}
	l.storages[key] = s
	return s, nil
}

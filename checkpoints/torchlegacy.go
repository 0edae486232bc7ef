package checkpoints

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// The number that a legacy file begins with, as protocols 2 to 5 write it and as 0 and 1 do.
const (
	legacyMagic     = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
	legacyMagicText = "L119547037146038801333356L\n."
	legacyVersion   = 1001
)

// isLegacyTorch reports whether a file begins like one of torch.save before PyTorch 1.6.
func isLegacyTorch(head string) bool {
	if strings.HasPrefix(head, legacyMagicText) {
		return true
	}
	at := strings.Index(head, legacyMagic) // behind PROTO, and since protocol 4 a FRAME
	return (at == 2 || at == 11) && head[0] == 0x80
}

// A legacyLoader decodes a file of torch.save before PyTorch 1.6 (or with _use_new_zipfile_serialization=False), a row of
// pickles: a magic number, a version, facts on the machine, the value, the keys of its storages. The storages follow, in the
// order of the keys, each as its number of elements in 8 bytes and its data.
type legacyLoader struct {
	m        *mapping
	data     []byte // of m
	at       int    // what is read next
	cost     int    // of the pickles so far
	storages map[string]*legacyStorage
	views    map[string]*legacyView
}

// legacyStorage is a storage that the pickle names before it is known where it lies.
type legacyStorage struct {
	torchStorage
	located bool
}

// legacyView is a part of a storage under a key of its own, as PyTorch up to 0.4 had them.
type legacyView struct {
	torchStorage
	root *legacyStorage
	from int // bytes
}

func readLegacyTorch(w *Weights, m *mapping) error {
	w.format = "pytorch-legacy"
	l := &legacyLoader{m: m, data: m.data, storages: map[string]*legacyStorage{}, views: map[string]*legacyView{}}
	if err := l.preface(); err != nil {
		return err
	}
	value, err := l.pickle(l.persistent)
	if err != nil {
		return err
	}
	if err := l.locate(); err != nil {
		return err
	}
	m.release(m.data)
	return newTorchWalk(w, m).run(value)
}

// preface reads what comes before the value.
func (l *legacyLoader) preface() error {
	magic, err := l.pickle(noPersistent)
	if err != nil {
		return err
	}
	if n, ok := magic.(*big.Int); !ok || n.String() != strings.Trim(legacyMagicText, "L\n.") {
		return formatf("damaged at 0: not the number that a legacy PyTorch file begins with")
	}
	version, err := l.pickle(noPersistent)
	if err != nil {
		return err
	}
	if n, ok := version.(int); !ok || n != legacyVersion {
		return formatf("legacy PyTorch file of version %d instead of %d (re-save it with torch.save)", n, legacyVersion)
	}
	// The byte order and the sizes of C types of the machine: the data are little-endian whatever they are.
	_, err = l.pickle(noPersistent)
	return err
}

// pickle decodes the pickle at l.at and moves behind it.
func (l *legacyLoader) pickle(persistent func(any) (any, error)) (any, error) {
	b := l.data[l.at:]
	end, cost, err := scanPickle(b, l.cost, "pickle", l.at)
	if err != nil {
		return nil, err
	}
	value, err := decodePickle(b[:end], persistent, "pickle", l.at)
	if err != nil {
		return nil, err
	}
	l.at, l.cost = l.at+end, cost
	return value, nil
}

func noPersistent(any) (any, error) { return nil, fmt.Errorf("persistent id outside of the value") }

// persistent resolves ("storage", type, key, device, number of elements, view), where view is None or (key, first element,
// number of elements); and ("module", class, file, source), which stands for the class.
func (l *legacyLoader) persistent(id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if ok && t.Len() > 1 && t.Get(0) == any("module") {
		if class, ok := t.Get(1).(*opaqueClass); ok {
			return class, nil
		}
	}
	p, err := parseStorage(id)
	if err != nil {
		return nil, err
	}
	s, ok := l.storages[p.key]
	if ok {
		if _, err := p.same(&s.torchStorage); err != nil {
			return nil, err
		}
	} else {
		if p.size, ok = product(p.count, p.typ.width); !ok || p.size > len(l.data) {
			return nil, fmt.Errorf("storage %q of %d elements of %s exceeds the file", clip(p.key), p.count, p.typ.name)
		}
		s = &legacyStorage{torchStorage: *p}
		l.storages[p.key] = s
	}
	if t.Len() < 6 || t.Get(5) == nil {
		return &s.torchStorage, nil
	}
	return l.view(s, t.Get(5))
}

// view resolves a view of a storage.
func (l *legacyLoader) view(root *legacyStorage, id any) (any, error) {
	t, ok := id.(*types.Tuple)
	if !ok || t.Len() != 3 {
		return nil, fmt.Errorf("storage %q: its view is not (key, offset, size)", clip(root.key))
	}
	key, ok1 := t.Get(0).(string)
	offset, ok2 := t.Get(1).(int)
	count, ok3 := t.Get(2).(int)
	if !ok1 || !ok2 || !ok3 || offset < 0 || count < 0 || offset > root.count || count > root.count-offset {
		return nil, fmt.Errorf("storage %q of %d elements: its view %s lies outside", clip(root.key), root.count, clip(fmt.Sprint(*t...)))
	}
	v, ok := l.views[key]
	if !ok {
		width := root.typ.width
		v = &legacyView{root: root, from: offset * width}
		v.torchStorage = torchStorage{key: key, typ: root.typ, count: count, size: count * width}
		l.views[key] = v
	} else if v.root != root || v.from != offset*root.typ.width || v.count != count {
		return nil, fmt.Errorf("view %q of storage %q is described in two ways", clip(key), clip(root.key))
	}
	return &v.torchStorage, nil
}

// locate reads the keys of the storages and finds each one's data. Every storage must be there, whole, and nothing else.
func (l *legacyLoader) locate() error {
	at := l.at
	value, err := l.pickle(noPersistent)
	if err != nil {
		return err
	}
	keys, ok := value.(*types.List)
	if !ok {
		return formatf("pickle at %d: the keys of the storages are not a list", at)
	}
	for i, k := range *keys {
		if i%releaseEvery == releaseEvery-1 {
			l.m.release(l.data)
		}
		key, _ := k.(string)
		s, ok := l.storages[key]
		if !ok || s.located {
			return formatf("pickle at %d: storage %q is listed twice or belongs to no tensor", at, clip(fmt.Sprint(k)))
		}
		if err := l.take(s); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.storages)) {
		if !l.storages[key].located {
			return formatf("storage %q is missing from the file", clip(key))
		}
	}
	if l.at != len(l.data) {
		return formatf("%d bytes follow the last storage at %d: the file is damaged (copy it again)", len(l.data)-l.at, l.at)
	}
	for _, v := range l.views {
		v.data, v.at = v.root.data[v.from:v.from+v.size], v.root.at+v.from
	}
	return nil
}

// take finds the data of the storage at l.at and moves behind it.
func (l *legacyLoader) take(s *legacyStorage) error {
	left := len(l.data) - l.at
	if left < 8 || s.size > left-8 {
		return formatf("storage %q of %d bytes at %d ends after the file: it is cut (copy it again)", clip(s.key), s.size, l.at)
	}
	if n := binary.LittleEndian.Uint64(l.data[l.at:]); n != uint64(s.count) {
		return formatf("storage %q at %d has %d elements, the pickle says %d", clip(s.key), l.at, n, s.count)
	}
	s.at = l.at + 8
	l.at = s.at + s.size
	s.data, s.located = l.data[s.at:l.at:l.at], true
	return nil
}

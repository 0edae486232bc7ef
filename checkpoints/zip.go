package checkpoints

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// releaseEvery is after how many places of a mapped file its pages are released: a place of few bytes brings up to 2 MB.
const releaseEvery = 64

// A record is one entry of a zip file.
type record struct {
	name   string
	flags  uint16
	method uint16
	crc    uint32
	packed uint64 // bytes in the file
	size   uint64 // bytes when unpacked
	header uint64 // offset of the local header
	data   int    // offset of the data
}

// readZip reads the directory of a zip file and compares each entry with its local header. It is stricter than archive/zip,
// since two readers that see different files in one archive are how scanners are fooled: names must be unique and stay
// inside the archive, nothing may be encrypted or span disks, entries may not overlap.
func readZip(m *mapping) (map[string]*record, error) {
	b := m.data
	dir, count, err := zipDirectory(b)
	if err != nil {
		return nil, err
	}
	records := make(map[string]*record, min(count, uint64(len(dir)/46)))
	order := make([]*record, 0, len(records))
	for n := uint64(0); len(dir) > 0; n++ {
		r, rest, err := zipEntry(dir)
		if err != nil {
			return nil, err
		}
		dir = rest
		if err := r.locate(b); err != nil {
			return nil, err
		}
		if _, ok := records[r.name]; ok {
			return nil, formatf("zip entry %q comes twice", clip(r.name))
		}
		records[r.name] = r
		if order = append(order, r); len(order)%releaseEvery == 0 {
			m.release(b)
		}
	}
	if uint64(len(order)) != count {
		return nil, formatf("zip directory has %d entries, its end says %d", len(order), count)
	}
	slices.SortFunc(order, func(a, b *record) int { return int(a.header) - int(b.header) })
	for i := 1; i < len(order); i++ {
		if p := order[i-1]; uint64(p.data)+p.packed > order[i].header {
			return nil, formatf("zip entries %q and %q overlap", clip(p.name), clip(order[i].name))
		}
	}
	return records, nil
}

// zipDirectory finds the directory: its bytes and its number of entries.
func zipDirectory(b []byte) (dir []byte, count uint64, err error) {
	le := binary.LittleEndian
	end := -1
	for at := len(b) - 22; at >= max(0, len(b)-22-math.MaxUint16); at-- {
		if b[at] == 'P' && string(b[at:at+4]) == "PK\x05\x06" && at+22+int(le.Uint16(b[at+20:])) == len(b) {
			end = at
			break
		}
	}
	if end < 0 {
		return nil, 0, formatf("zip file without its directory: it is cut (copy it again)")
	}
	e := b[end:]
	if le.Uint16(e[4:]) != 0 && le.Uint16(e[4:]) != math.MaxUint16 || le.Uint16(e[8:]) != le.Uint16(e[10:]) {
		return nil, 0, formatf("zip file of several parts")
	}
	count, size, at := uint64(le.Uint16(e[10:])), uint64(le.Uint32(e[12:])), uint64(le.Uint32(e[16:]))
	limit := uint64(end)
	if end >= 20 && string(b[end-20:end-16]) == "PK\x06\x07" { // zip64
		limit = le.Uint64(b[end-12:])
		if limit > uint64(end-20) || uint64(end-20)-limit < 56 || string(b[limit:limit+4]) != "PK\x06\x06" {
			return nil, 0, formatf("zip64 directory end is not at %d", limit)
		}
		z := b[limit:]
		count, size, at = le.Uint64(z[32:]), le.Uint64(z[40:]), le.Uint64(z[48:])
	}
	if at > limit || size != limit-at {
		return nil, 0, formatf("zip directory of %d bytes at %d does not end at %d", size, at, limit)
	}
	if size > maxDirectory {
		return nil, 0, formatf("zip directory of %d bytes exceeds the limit of %d", size, maxDirectory)
	}
	return b[at:limit], count, nil
}

// zipEntry reads the first entry of a directory.
func zipEntry(dir []byte) (r *record, rest []byte, err error) {
	le := binary.LittleEndian
	if len(dir) < 46 || string(dir[:4]) != "PK\x01\x02" {
		return nil, nil, formatf("zip directory is damaged")
	}
	name, extra, comment := int(le.Uint16(dir[28:])), int(le.Uint16(dir[30:])), int(le.Uint16(dir[32:]))
	if len(dir) < 46+name+extra+comment {
		return nil, nil, formatf("zip directory is damaged")
	}
	r = &record{
		name:   string(dir[46 : 46+name]),
		flags:  le.Uint16(dir[8:]),
		method: le.Uint16(dir[10:]),
		crc:    le.Uint32(dir[16:]),
		packed: uint64(le.Uint32(dir[20:])),
		size:   uint64(le.Uint32(dir[24:])),
		header: uint64(le.Uint32(dir[42:])),
	}
	if err := zip64(dir[46+name:46+name+extra], &r.size, &r.packed, &r.header); err != nil {
		return nil, nil, formatf("zip entry %q: sizes are damaged", clip(r.name))
	}
	return r, dir[46+name+extra+comment:], r.admit()
}

// admit refuses what no PyTorch file holds.
func (r *record) admit() error {
	switch {
	case r.flags&(1|1<<6|1<<13) != 0:
		return formatf("zip entry %q is encrypted", clip(r.name))
	case r.name == "" || len(r.name) > maxName || strings.ContainsAny(r.name, "\\\x00") || strings.HasPrefix(r.name, "/"):
		return formatf("zip entry %q is not a name that stays in the archive", clip(r.name))
	case r.method == 0 && r.packed != r.size:
		return formatf("zip entry %q is stored, but has two sizes, %d and %d", clip(r.name), r.packed, r.size)
	}
	for part := range strings.SplitSeq(r.name, "/") {
		if part == ".." {
			return formatf("zip entry %q is not a name that stays in the archive", clip(r.name))
		}
	}
	return nil
}

// zip64 takes the values that are 2^32-1 from the extra field of an entry, in the order in which they are given.
func zip64(extra []byte, values ...*uint64) error {
	le := binary.LittleEndian
	var field []byte
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if n > len(extra)-4 {
			break // padding, as some writers leave
		}
		if id == 1 {
			field = extra[4 : 4+n]
			break
		}
		extra = extra[4+n:]
	}
	for _, v := range values {
		if *v != math.MaxUint32 {
			continue
		}
		if len(field) < 8 {
			if field == nil {
				continue // the value may be just that; it is checked against the file's size later
			}
			return ErrFormat
		}
		*v, field = le.Uint64(field), field[8:]
	}
	return nil
}

// locate reads the local header, compares it with the directory's entry, and sets where the data lie.
func (r *record) locate(b []byte) error {
	le := binary.LittleEndian
	size := uint64(len(b))
	if r.header > size || size-r.header < 30 || string(b[r.header:r.header+4]) != "PK\x03\x04" {
		return formatf("zip entry %q has no header at %d", clip(r.name), r.header)
	}
	h := b[r.header:]
	name, extra := int(le.Uint16(h[26:])), int(le.Uint16(h[28:]))
	if len(h) < 30+name+extra {
		return formatf("zip entry %q is cut at %d (copy the file again)", clip(r.name), r.header)
	}
	packed, full := uint64(le.Uint32(h[18:])), uint64(le.Uint32(h[22:]))
	if err := zip64(h[30+name:30+name+extra], &full, &packed); err != nil {
		return formatf("zip entry %q: sizes are damaged at %d", clip(r.name), r.header)
	}
	// A streaming writer, as PyTorch's, leaves sum and sizes for a descriptor behind the data.
	streamed := r.flags&8 != 0 && le.Uint32(h[14:]) == 0 && full == 0 && packed == 0
	same := le.Uint32(h[14:]) == r.crc && full == r.size && packed == r.packed
	if !bytes.Equal(h[30:30+name], []byte(r.name)) || le.Uint16(h[6:]) != r.flags || le.Uint16(h[8:]) != r.method || !same && !streamed {
		return formatf("zip entry %q differs between the directory and its header at %d", clip(r.name), r.header)
	}
	data := r.header + uint64(30+name+extra)
	if r.packed > size-data {
		return formatf("zip entry %q of %d bytes at %d ends after the file (copy it again)", clip(r.name), r.packed, data)
	}
	r.data = int(data)
	return nil
}

// bytes returns the data of a stored entry.
func (r *record) bytes(b []byte) ([]byte, error) {
	if r.method != 0 {
		return nil, formatf("zip entry %q is compressed (re-save the file with torch.save, which does not compress)", clip(r.name))
	}
	end := r.data + int(r.size)
	return b[r.data:end:end], nil
}

package checkpoints

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
)

// How an opcode's argument lies in the stream.
type pickleArg uint8

const (
	argUnknown pickleArg = iota // not an opcode, or one that no checkpoint needs
	argNone
	arg1     // 1 byte
	arg2     // 2 bytes
	arg4     // 4 bytes
	arg8     // 8 bytes
	argLen1  // a length in 1 byte, then as many bytes
	argLen4  // a length in 4 bytes
	argLen8  // a length in 8 bytes
	argLong1 // an integer, its length in 1 byte
	argLong4
	argFrame // the length of a frame in 8 bytes; what it holds are opcodes
	argLine  // up to the end of the line
	argLine2 // two lines
)

// pickleOps describes the opcodes of protocols 0 to 5: their argument, and about how many bytes gopickle allocates for one.
// Missing on purpose: extension codes and out-of-band buffers.
var pickleOps = func() (ops [256]struct {
	arg  pickleArg
	cost int
}) {
	set := func(arg pickleArg, cost int, opcodes string) {
		for i := range len(opcodes) {
			ops[opcodes[i]].arg, ops[opcodes[i]].cost = arg, cost
		}
	}
	set(argNone, 16, ".01Qabesu\x90")
	set(argNone, 64, "2N\x88\x89") // a value on the stack, that may move into an OrderedDict
	set(argNone, 96, ")\x85\x86\x87\x81\x92l\x93t")
	set(argNone, 288, "(")        // a new stack of 16 values
	set(argNone, 176, "}]d")      // room for 4 entries
	set(argNone, 320, "\x8f\x91") // a map
	set(argNone, 512, "Ro")       // may make an OrderedDict
	set(argNone, 64, "\x94")      // an entry of the memo
	set(arg1, 64, "Kh\x80q")
	set(arg2, 64, "M")
	set(arg4, 64, "jJr")
	set(arg8, 64, "G")
	set(argLen1, 96, "UC\x8c")
	set(argLen4, 96, "TBX")
	set(argLen8, 96, "\x8d\x8e\x96")
	set(argLong1, 96, "\x8a")
	set(argLong4, 96, "\x8b")
	set(argFrame, 48, "\x95")
	set(argLine, 96, "FILPSVgp")
	set(argLine2, 128, "c")
	set(argLine2, 512, "i")
	return ops
}()

// A pickleScan walks a pickle without decoding it. gopickle trusts the stream: it allocates any length that it reads, and
// panics on some opcodes. What passes here asks for no more than maxPickleHeap.
type pickleScan struct {
	b       []byte
	i       int
	depth   int
	cost    int
	memo    map[int]text // what was stored
	strings [2]text      // what the last two opcodes pushed, for STACK_GLOBAL
}

// text is a string of the pickle, or unknown: another value, or a string too long for a name.
type text struct {
	v     string
	known bool
}

// scanPickle checks that b begins with a whole pickle within the limits, whose globals are admitted. It returns where the
// pickle ends, and cost with what it costs added: the bytes that decoding it may allocate. What and base say in errors what
// b is and where it begins.
func scanPickle(b []byte, cost int, what string, base int) (end, total int, err error) {
	s := &pickleScan{b: b, memo: map[int]text{}, cost: cost}
	for {
		if s.i >= len(b) {
			return 0, 0, formatf("%s ends at %d without STOP: it is cut", what, base+s.i)
		}
		at, op := s.i, b[s.i]
		s.i++
		arg, err := s.argument(op)
		if err == nil {
			err = s.step(op, arg)
		}
		if err != nil {
			return 0, 0, formatf("%s at %d: %v", what, base+at, err)
		}
		if s.i > maxPickle {
			return 0, 0, formatf("%s at %d exceeds the limit of %d bytes", what, base, maxPickle)
		}
		if op == '.' {
			return s.i, s.cost, nil
		}
	}
}

type scanError string

func (e scanError) Error() string { return string(e) }

const errCut = scanError("ends within an opcode")

// argument skips the argument of an opcode and returns it; of a counted one, what follows the count.
func (s *pickleScan) argument(op byte) ([]byte, error) {
	switch kind := pickleOps[op].arg; kind {
	case argNone:
		return nil, nil
	case arg1, arg2, arg4, arg8:
		return s.take(1 << (kind - arg1))
	case argLen1, argLen4, argLen8, argLong1, argLong4:
		n, err := s.length(kind)
		if err != nil {
			return nil, err
		}
		if (kind == argLong1 || kind == argLong4) && (n == 0 || n > maxLong) {
			return nil, scanError("integer of " + strconv.Itoa(n) + " bytes")
		}
		return s.take(n)
	case argFrame:
		arg, err := s.take(8)
		if err != nil {
			return nil, err
		}
		if n := binary.LittleEndian.Uint64(arg); n > uint64(len(s.b)-s.i) {
			return nil, scanError("frame of " + strconv.FormatUint(n, 10) + " bytes exceeds the file")
		}
		return arg, nil
	case argLine, argLine2:
		line, err := s.line()
		if err == nil && kind == argLine2 {
			begin := s.i - len(line) - 1
			if _, err = s.line(); err == nil {
				line = s.b[begin : s.i-1]
			}
		}
		if err == nil && op != 'S' && op != 'V' && len(line) > maxLong {
			return nil, scanError("line of " + strconv.Itoa(len(line)) + " bytes")
		}
		return line, err
	}
	return nil, scanError("opcode 0x" + strconv.FormatUint(uint64(op), 16) + " is not allowed")
}

func (s *pickleScan) length(kind pickleArg) (int, error) {
	width := 1
	switch kind {
	case argLen4, argLong4:
		width = 4
	case argLen8:
		width = 8
	}
	b, err := s.take(width)
	if err != nil {
		return 0, err
	}
	n := uint64(0)
	for i := width - 1; i >= 0; i-- {
		n = n<<8 | uint64(b[i])
	}
	if n > uint64(len(s.b)-s.i) {
		return 0, scanError("length of " + strconv.FormatUint(n, 10) + " bytes exceeds the file")
	}
	return int(n), nil
}

func (s *pickleScan) take(n int) ([]byte, error) {
	if n > len(s.b)-s.i {
		return nil, errCut
	}
	s.i += n
	return s.b[s.i-n : s.i], nil
}

func (s *pickleScan) line() ([]byte, error) {
	n := bytes.IndexByte(s.b[s.i:], '\n')
	if n < 0 {
		return nil, errCut
	}
	s.i += n + 1
	return s.b[s.i-n-1 : s.i-1], nil
}

// step counts what an opcode costs, and follows marks, memo and names.
func (s *pickleScan) step(op byte, arg []byte) error {
	s.cost += pickleOps[op].cost + 2*len(arg)
	if s.cost > maxPickleHeap {
		return scanError("needs more memory than the limit of " + strconv.Itoa(maxPickleHeap) + " bytes")
	}
	switch op {
	case '(':
		if s.depth++; s.depth > maxPickleDepth {
			return scanError("more than " + strconv.Itoa(maxPickleDepth) + " open marks")
		}
	case 't', 'l', 'd', 'e', 'u', '1', 'o', 'i', '\x90', '\x91':
		s.depth = max(0, s.depth-1)
	}
	switch op {
	case '\x80', '\x95': // these push nothing
		return nil
	case 'q', 'r', 'p', '\x94':
		return s.put(op, arg)
	case '\x93':
		if s.strings[0].known && s.strings[1].known {
			return admitGlobal(s.strings[0].v, s.strings[1].v)
		}
	case 'c', 'i':
		module, name, _ := bytes.Cut(arg, []byte("\n"))
		if err := admitGlobal(string(module), string(name)); err != nil {
			return err
		}
	}
	pushed, err := s.pushed(op, arg)
	s.strings[0], s.strings[1] = s.strings[1], pushed
	return err
}

// pushed returns the string that an opcode pushes.
func (s *pickleScan) pushed(op byte, arg []byte) (text, error) {
	switch op {
	case 'X', '\x8c', '\x8d', 'V', 'T', 'U':
		if len(arg) <= maxLong {
			return text{string(arg), true}, nil
		}
	case 'h', 'j', 'g':
		n, err := memoIndex(op, arg)
		if err != nil {
			return text{}, err
		}
		v, ok := s.memo[n]
		if !ok {
			return text{}, scanError("memo " + strconv.Itoa(n) + " is read before it is written")
		}
		return v, nil
	}
	return text{}, nil
}

// put follows a store into the memo.
func (s *pickleScan) put(op byte, arg []byte) error {
	n, err := len(s.memo), error(nil)
	if op != '\x94' {
		if n, err = memoIndex(op, arg); err != nil {
			return err
		}
	}
	s.memo[n] = s.strings[1]
	return nil
}

func memoIndex(op byte, arg []byte) (int, error) {
	switch op {
	case 'q', 'h':
		return int(arg[0]), nil
	case 'r', 'j':
		return int(binary.LittleEndian.Uint32(arg) & math.MaxUint32), nil
	}
	n, err := strconv.Atoi(string(arg))
	if err != nil || n < 0 {
		return 0, scanError("memo index " + strconv.Quote(clip(string(arg))))
	}
	return n, nil
}

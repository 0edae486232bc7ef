//go:build unix

package tokenizer

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

var peerRun = flag.String("peer", "", "time the encoding of TEXT with the tokenizer in DIR: DIR,TEXT (testdata/bench_peer.mjs gives it)")

// TestPeer times our side of testdata/bench_peer.mjs: CPU seconds of one thread for a first pass over the text and for later ones.
func TestPeer(t *testing.T) {
	dir, file, ok := strings.Cut(*peerRun, ",")
	if !ok {
		t.Skip("testdata/bench_peer.mjs runs it")
	}
	runtime.GOMAXPROCS(1)
	tok, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tok.Encode([]byte("Hello, world")) // tables that are made once
	docs := documents(string(text))
	runtime.GC()
	for range 8 {
		start, tokens := cpuTime(), 0
		for _, d := range docs {
			tokens += len(tok.Encode(d))
		}
		fmt.Printf("pass %.6f %d\n", (cpuTime() - start).Seconds(), tokens)
	}
}

// documents cuts text at line ends into parts of at least 4000 bytes, as bench_peer.mjs does.
func documents(text string) (docs [][]byte) {
	var d []byte
	for line := range strings.SplitAfterSeq(text, "\n") {
		if d = append(d, line...); len(d) >= 4000 {
			docs, d = append(docs, d), nil
		}
	}
	return append(docs, d)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

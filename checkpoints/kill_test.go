//go:build unix

package checkpoints

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be a process that writes folders until it is killed, or until its disk is full.
func TestMain(m *testing.M) {
	path := os.Getenv("CHECKPOINTS_TEST_DIR")
	if path == "" {
		os.Exit(m.Run())
	}
	if limit, err := strconv.Atoi(os.Getenv("CHECKPOINTS_TEST_LIMIT")); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(limit), Max: uint64(limit)}); err != nil {
			panic(err)
		}
	}
	for i := 0; ; i++ {
		if err := writeDir(path, true, strings.Repeat(strconv.Itoa(i%10), 1<<19)); err != nil {
			println(err.Error())
			os.Exit(3)
		}
	}
}

// TestDirKilled kills a process that replaces a folder again and again. The folder is always there and whole.
func TestDirKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	if err := writeDir(path, false, "first"); err != nil {
		t.Fatal(err)
	}
	rounds, swept := 12, 0
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CHECKPOINTS_TEST_DIR="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for n := 0; len(temps(t, filepath.Dir(path))) == 0 && n < 20_000; n++ { // until it has begun
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // it was killed
		swept += len(temps(t, filepath.Dir(path)))
		RemoveTemp(filepath.Dir(path))
		v, err := os.ReadFile(filepath.Join(path, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		holds(t, path, string(v))
	}
	if swept == 0 && rounds > 3 {
		t.Error("no kill hit a write: the test shows nothing")
	}
}

// TestDirFull: a write that the disk refuses is an error, and the old folder stays.
func TestDirFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model")
	if err := writeDir(path, false, "first"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHECKPOINTS_TEST_DIR="+path, "CHECKPOINTS_TEST_LIMIT=100000")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "file too large") {
		t.Errorf("%v: %s", err, out)
	}
	holds(t, path, "first")
}

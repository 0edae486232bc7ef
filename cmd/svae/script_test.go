package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"

	"svae/checkpoints"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"svae": main})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CHECKPOINTS", absolute("../../checkpoints/testdata"))
			if err := tokenizers(e.WorkDir); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(e.WorkDir, "bytes.bin"), []byte("The \xff\xfe whale \x00 said \xe2\x82"), 0o666); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "corpus.jsonl"), corpus(40), 0o666)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   exits,
			"help":    help,
			"gz":      gz,
			"cut":     cut,
			"flip":    flip,
			"tensors": tensors,
			"json":    jsonValue,
			"samerun": same,
			"atmost":  atMost,
			"killed":  killed,
		},
	})
}

// tokenizers puts the demo's tokenizer into the folder tok, and one that lacks its last merge into the folder other.
func tokenizers(dir string) error {
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		b, err := os.ReadFile(filepath.Join("demo", "base", name))
		if err != nil {
			return err
		}
		less := b
		if name == "tokenizer.json" {
			var v map[string]any
			if err := json.Unmarshal(b, &v); err != nil {
				return err
			}
			model := v["model"].(map[string]any)
			merges := model["merges"].([]any)
			model["merges"] = merges[:len(merges)-1]
			if less, err = json.Marshal(v); err != nil {
				return err
			}
		}
		for to, text := range map[string][]byte{"tok": b, "other": less} {
			path := filepath.Join(dir, to)
			if err := os.MkdirAll(path, 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(path, name), text, 0o666); err != nil {
				return err
			}
		}
	}
	return nil
}

func absolute(path string) string {
	p, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return p
}

// corpus returns JSONL of n documents of a few sentences.
func corpus(n int) []byte {
	words := strings.Fields("the whale sea ship captain old man saw said white great boat water night day long over under never again")
	var b bytes.Buffer
	seed := uint32(1)
	next := func(n int) int {
		seed = seed*1664525 + 1013904223
		return int(seed>>16) % n
	}
	for d := range n {
		var text []string
		for range 2 + next(5) {
			s := "The"
			for range 6 + next(7) {
				s += " " + words[next(len(words))]
			}
			text = append(text, s+".")
		}
		fmt.Fprintf(&b, "{\"id\": \"d%d\", \"content\": %q}\n", d, strings.Join(text, " "))
	}
	return b.Bytes()
}

// exits runs svae and checks its exit code, that an error is exactly one line that begins "svae: ", and that a wrong
// command line prints nothing else:
//
//	exits CODE ARG...
//
// The error line can then be matched with stderr.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG...")
	}
	err := ts.Exec("svae", args[1:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if want, _ := strconv.Atoi(args[0]); code != want {
		ts.Fatalf("svae %s: exit code %d, want %d", strings.Join(args[1:], " "), code, want)
	}
	out, msg := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	switch {
	case code == 0:
	case code == exitUsage && (out != "" || strings.Count(msg, "\n") != 1):
		ts.Fatalf("a wrong command line must print one line to stderr and nothing to stdout")
	case strings.Count(msg, "svae: ") != 1 || !strings.Contains("\n"+msg, "\nsvae: ") || !strings.HasSuffix(msg, "\n"):
		ts.Fatalf("an error must be one line that begins with svae:")
	}
}

// help checks the help text of a command: it exits with 0 and its examples use only flags that it lists. Without an
// argument it does so for all commands.
func help(ts *testscript.TestScript, neg bool, args []string) {
	apps := newApp(nil, nil)
	seen := 0
	for _, c := range apps.Commands {
		paths := [][]string{{c.Name}}
		for _, s := range c.Subcommands {
			paths = append(paths, []string{c.Name, s.Name})
		}
		for _, p := range paths {
			ts.Check(ts.Exec("svae", append(p, "--help")...))
			if msg := ts.ReadFile("stderr"); msg != "" {
				ts.Fatalf("help of %v printed to stderr: %s", p, msg)
			}
			examples(ts, p, ts.ReadFile("stdout"))
			seen++
		}
	}
	if seen < 10 {
		ts.Fatalf("only %d commands have help", seen)
	}
}

var (
	exampleLine = regexp.MustCompile(`(?m)^ +svae (.*)$`)
	listedFlag  = regexp.MustCompile(`(?m)^ +--([a-z-]+)`)
	usedFlag    = regexp.MustCompile(` --([a-z-]+)`)
)

func examples(ts *testscript.TestScript, path []string, text string) {
	listed := map[string]bool{}
	for _, m := range listedFlag.FindAllStringSubmatch(text, -1) {
		listed[m[1]] = true
	}
	for _, m := range exampleLine.FindAllStringSubmatch(text, -1) {
		line := m[1]
		name := strings.Join(path, " ")
		if !strings.HasPrefix(line, name+" ") || strings.Contains(line, "command options") || strings.Contains(line, " - ") {
			continue
		}
		for _, f := range usedFlag.FindAllStringSubmatch(line, -1) {
			if !listed[f[1]] {
				ts.Fatalf("the help of svae %s shows --%s, which it does not list", name, f[1])
			}
		}
	}
	if strings.Contains(text, "'FOLDER'") {
		ts.Fatalf("the help of svae %v shows the name of a value in quotes", path)
	}
}

// gz packs a file.
func gz(ts *testscript.TestScript, neg bool, args []string) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(ts.ReadFile(args[0])))
	ts.Check(w.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o666))
}

// cut shortens a file to its first bytes: cut FILE N.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), int64(n)))
}

// flip changes one byte in the middle of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 0x10
	ts.Check(os.WriteFile(path, b, 0o666))
}

// tensors rewrites the weights of a folder: tensors SRC DST drop|add|shape|nan.
func tensors(ts *testscript.TestScript, neg bool, args []string) {
	src, err := checkpoints.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer src.Close()
	var out []checkpoints.Named
	for _, name := range src.Names() {
		t, _ := src.Get(name)
		v := make([]float32, t.Len())
		ts.Check(t.Float32(v))
		shape := t.Shape
		switch {
		case args[2] == "drop" && name == "model.norm.weight":
			continue
		case args[2] == "shape" && name == "model.norm.weight":
			shape, v = []int{len(v) / 2}, v[:len(v)/2]
		case args[2] == "nan" && name == "model.norm.weight":
			v[3] /= 0
			v[3] -= v[3]
		}
		out = append(out, checkpoints.FromFloat32(name, shape, v))
	}
	if args[2] == "add" {
		out = append(out, checkpoints.FromFloat32("model.extra.weight", []int{2}, []float32{1, 2}))
	}
	d, err := checkpoints.CreateDir(ts.MkAbs(args[1]), false)
	ts.Check(err)
	defer d.Abort()
	for _, name := range []string{"config.json", "tokenizer.json", "tokenizer_config.json"} {
		b, err := os.ReadFile(filepath.Join(ts.MkAbs(args[0]), name))
		ts.Check(err)
		ts.Check(d.WriteFile(name, b))
	}
	w, err := d.Create("model.safetensors")
	ts.Check(err)
	ts.Check(checkpoints.WriteSafetensors(w, out, nil))
	ts.Check(w.Close())
	ts.Check(d.Commit())
}

// jsonValue checks that stdout is JSON that has a value under a dotted path: json PATH [REGEXP].
func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	for _, key := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				ts.Fatalf("no element %s of %d", key, len(x))
			}
			v = x[i]
		case map[string]any:
			var ok bool
			if v, ok = x[key]; !ok {
				ts.Fatalf("no key %s", key)
			}
		default:
			ts.Fatalf("no %s in %v", key, v)
		}
	}
	if len(args) > 1 && !regexp.MustCompile(args[1]).MatchString(fmt.Sprint(v)) {
		ts.Fatalf("%s is %v, want a match of %s", args[0], v, args[1])
	}
}

// same compares two finished runs at a step: weights, optimizer and, apart from timing, metrics: samerun RUN RUN STEP.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if err := sameRun(ts.MkAbs(args[0]), ts.MkAbs(args[1]), args[2]); (err != nil) != neg {
		ts.Fatalf("%s and %s: %v", args[0], args[1], err)
	}
}

var timing = regexp.MustCompile(`,"tokens_per_second":[^,}]*`)

func sameRun(a, b, step string) error {
	for _, name := range []string{"checkpoints/step-" + step + "/model.safetensors", "checkpoints/step-" + step + "/optimizer.safetensors", "metrics.jsonl"} {
		x, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			return err
		}
		y, err := os.ReadFile(filepath.Join(b, name))
		if err != nil {
			return err
		}
		if name == "metrics.jsonl" {
			x, y = timing.ReplaceAll(x, nil), timing.ReplaceAll(y, nil)
		}
		if !bytes.Equal(x, y) {
			return fmt.Errorf("%s differs", name)
		}
	}
	return nil
}

// atMost checks that generated text keeps to a number of bytes and cuts no character, whatever the seed: atmost MODEL N.
func atMost(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	for seed := range 4 {
		ts.Check(ts.Exec("svae", "generate", "--model", args[0], "--prompt", "The sea", "--temperature", "3", "--seed", strconv.Itoa(seed), "--max-bytes", args[1], "--ignore-stop"))
		text := strings.TrimSuffix(ts.ReadFile("stdout"), "\n")
		if len(text) > n || !utf8.ValidString(text) {
			ts.Fatalf("%q is over %d bytes or not whole", text, n)
		}
	}
}

// killed runs svae until a checkpoint exists and metrics.jsonl has gone on from it, then sends a signal, and checks how
// the process ends: killed kill|int RUN STEP ARG...
func killed(ts *testscript.TestScript, neg bool, args []string) {
	sig, code := syscall.SIGKILL, -1
	if args[0] == "int" {
		sig, code = syscall.SIGINT, exitInterrupted
	}
	var msg bytes.Buffer
	cmd := exec.Command("svae", args[3:]...) // testscript.Main puts it on the path
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), &msg
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	run := ts.MkAbs(args[1])
	step, err := strconv.Atoi(args[2])
	ts.Check(err)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
		_, err := os.Stat(filepath.Join(run, "checkpoints", "step-"+args[2]))
		if err == nil && bytes.Count(b, []byte("\n")) > step {
			break
		}
		select {
		case err := <-ended:
			ts.Fatalf("svae ended before step %s: %v: %s", args[2], err, &msg)
		default:
		}
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			ts.Fatalf("svae did not reach step %s: %s", args[2], &msg)
		}
	}
	ts.Check(cmd.Process.Signal(sig))
	<-ended
	if got := cmd.ProcessState.ExitCode(); got != code {
		ts.Fatalf("exit code %d, want %d: %s", got, code, &msg)
	}
	if sig == syscall.SIGINT && !strings.Contains(msg.String(), "svae: interrupted: saved step ") {
		ts.Fatalf("the last line should say what was saved: %s", &msg)
	}
}

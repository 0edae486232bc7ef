package train

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"svae/checkpoints"
	"svae/data"
	"svae/kernels"
	"svae/sllm"
)

// state is what a checkpoint holds beside the model and the optimizer's moments. All random numbers are functions of the
// seed and the step, so that none needs to be kept.
type state struct {
	Step     int                `json:"step"`   // steps taken
	Tokens   int64              `json:"tokens"` // scored so far
	Position data.Position      `json:"position"`
	Metrics  int64              `json:"metrics_bytes"` // length of metrics.jsonl at this step
	Data     string             `json:"data_sha256"`
	Rates    map[string]float64 `json:"rates"` // factors of the learning rate, by weight, where not 1
}

const (
	stateFile     = "state.json"
	optimizerFile = "optimizer.safetensors"
)

// save writes a checkpoint, all or nothing, and removes the oldest beyond Keep.
func (r *run) save() error {
	var err error
	if r.state.Metrics, err = r.log.sync(); err != nil {
		return err
	}
	f := r.model.folder
	r.state.Rates = map[string]float64{}
	for _, w := range f.Store.Weights() {
		if w.Rate != 0 && w.Rate != 1 {
			r.state.Rates[w.Name] = w.Rate
		}
	}
	d, err := checkpoints.CreateDir(sllm.StepDir(r.cfg.Out, r.state.Step), true)
	if err != nil {
		return err
	}
	defer d.Abort()
	if err := f.Write(d); err != nil {
		return err
	}
	be, ws := f.Store.Backend(), f.Store.Weights()
	if err := sllm.WriteTensors(d, optimizerFile, append(tensors(be, ws, "m.", r.opt.m), tensors(be, ws, "v.", r.opt.v)...)); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r.state, "", "  ")
	if err != nil {
		return err
	}
	if err := d.WriteFile(stateFile, b); err != nil {
		return err
	}
	if err := d.Commit(); err != nil {
		return err
	}
	return r.prune()
}

func (r *run) prune() error {
	steps, err := sllm.Checkpoints(r.cfg.Out)
	for len(steps) > r.cfg.Keep && err == nil {
		err = os.RemoveAll(sllm.StepDir(r.cfg.Out, steps[0]))
		steps = steps[1:]
	}
	return err
}

// isSaved says that a checkpoint of the present step is on disk.
func (r *run) isSaved() bool {
	_, err := os.Stat(filepath.Join(sllm.StepDir(r.cfg.Out, r.state.Step), stateFile))
	return err == nil
}

// newest returns the folder of the run's newest checkpoint whose manifest holds.
func newest(run string) (string, error) {
	checkpoints.RemoveTemp(filepath.Join(run, "checkpoints"))
	steps, err := sllm.Checkpoints(run)
	if err != nil {
		return "", err
	}
	if len(steps) == 0 {
		return "", fmt.Errorf("%s: holds no checkpoint (--force starts over)", run)
	}
	dir := sllm.StepDir(run, steps[len(steps)-1])
	if err := checkpoints.Verify(dir); err != nil {
		if len(steps) > 1 {
			return "", fmt.Errorf("%w (remove it to go on from %s)", err, sllm.StepDir(run, steps[len(steps)-2]))
		}
		return "", err
	}
	return dir, nil
}

// load reads the newest checkpoint of a run: state and model.
func (s *state) load(c *Config, be kernels.Backend) (*sllm.Folder, error) {
	dir, err := newest(c.Out)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, stateFile), err)
	}
	if err := sllm.RefuseBundle(dir); err != nil {
		return nil, err
	}
	f, err := sllm.Load(dir, be)
	if err != nil {
		return nil, err
	}
	f.Store.SetRates(s.Rates)
	return f, nil
}

// loadOptimizer reads the optimizer's moments.
func (s *state) loadOptimizer(c *Config, o *optimizer) error {
	path := filepath.Join(sllm.StepDir(c.Out, s.Step), optimizerFile)
	src, err := checkpoints.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	for prefix, of := range map[string]map[string]kernels.Buf{"m.": o.m, "v.": o.v} {
		for name, b := range of {
			t, ok := src.Get(prefix + name)
			if !ok || t.Len() != b.Len() {
				return fmt.Errorf("%s: holds no moments of %s of the right size", path, name)
			}
			v := make([]float32, b.Len())
			if err := t.Float32(v); err != nil {
				return err
			}
			o.store.Backend().Upload(b, v)
		}
	}
	return nil
}

package sllm_test

import (
	"os"
	"path/filepath"
	"testing"

	"svae/sllm"
	"svae/train"
)

// TestReferenceRunTrains reads what ReferenceRun writes as the configuration of a run.
func TestReferenceRunTrains(t *testing.T) {
	toml, _, err := sllm.ReferenceRun(map[string]any{"llm": map[string]any{"ref_model_dir": `C:\opt "125m"`, "finetune_layers": 0}, "batch_size": 1,
		"svae": map[string]any{"num_hidden_layers": 4, "model_path": "svae"}, "base_lr": 1e-6, "max_sen_len": 64, "max_sen_num": 32, "max_iters": 10})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.toml")
	if err := os.WriteFile(path, []byte(toml), 0o666); err != nil {
		t.Fatal(err)
	}
	c := train.Default(train.SLLM)
	if err := c.Apply("paper"); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	c.Data, c.Out = "data", "run"
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Stage != train.SLLM || c.Base != `C:\opt "125m"` || c.Graft != "svae" || c.BaseLR != 0 || c.Sentences != 32 || c.BatchTokens != 2048 ||
		c.Model.EncoderLayers != 4 || c.Model.DecoderLayers != 4 || !c.Model.PaperBlocks || c.LR != 1e-6 || c.Steps != 10 {
		t.Errorf("the run is %+v", c)
	}
}

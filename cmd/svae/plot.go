package main

import (
	"bufio"
	"encoding/json"
	"image/color"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"svae/train"
)

// plotLosses draws the losses of runs, in nats a token over steps, as a PNG.
func plotLosses(path, dir string, runs []string) error {
	p := plot.New()
	p.Title.Text = "Training loss"
	p.X.Label.Text = "step"
	p.Y.Label.Text = "nats a token"
	p.Legend.Top = true
	colors := []color.RGBA{{R: 31, G: 119, B: 180, A: 255}, {R: 255, G: 127, B: 14, A: 255}, {R: 44, G: 160, B: 44, A: 255}}
	for i, run := range runs {
		xy, err := readLosses(filepath.Join(dir, run, "metrics.jsonl"))
		if err != nil {
			return err
		}
		l, err := plotter.NewLine(xy)
		if err != nil {
			return err
		}
		l.Width = vg.Points(1.2)
		l.Color = colors[i%len(colors)]
		p.Add(l)
		p.Legend.Add(run, l)
	}
	p.Add(plotter.NewGrid())
	p.X.Min, p.Y.Max = 0, p.Y.Max*1.05
	p.Legend.YOffs, p.Legend.XOffs, p.Legend.Padding = -vg.Points(8), -vg.Points(4), vg.Points(3)
	return p.Save(16*vg.Centimeter, 9*vg.Centimeter, path)
}

// readLosses returns the losses of a run, each smoothed over the steps around it.
func readLosses(path string) (plotter.XYs, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var raw plotter.XYs
	for s := bufio.NewScanner(f); s.Scan(); {
		var m train.Metrics
		if err := json.Unmarshal(s.Bytes(), &m); err != nil {
			return nil, err
		}
		raw = append(raw, plotter.XY{X: float64(m.Step), Y: m.Loss})
	}
	const half = 4
	out := make(plotter.XYs, len(raw))
	for i := range raw {
		n := 0.0
		for j := max(0, i-half); j <= min(len(raw)-1, i+half); j++ {
			out[i].Y += raw[j].Y
			n++
		}
		out[i].X, out[i].Y = raw[i].X, out[i].Y/n
	}
	return out, nil
}

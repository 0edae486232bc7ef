// Command bench converts one file to safetensors and prints, as JSON, the seconds that opening and converting took. The
// folder for the result must not exist; with -plain the file is written like any other, without checksums and without
// waiting for the disk. bench_torch_load.py runs it.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"svae/checkpoints"
)

func main() {
	plain := flag.Bool("plain", false, "write without checksums and without waiting for the disk")
	flag.Parse()
	if flag.NArg() != 2 {
		log.Fatal("usage: bench [-plain] FILE FOLDER")
	}
	start := time.Now()
	w, err := checkpoints.Open(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	opened := time.Since(start)
	var ts []checkpoints.Named
	for _, name := range w.Names() {
		t, _ := w.Get(name)
		ts = append(ts, checkpoints.FromTensor(t))
	}
	if *plain {
		err = writePlain(flag.Arg(1), ts)
	} else {
		err = writeDir(flag.Arg(1), ts)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("{\"open\": %g, \"total\": %g}\n", opened.Seconds(), time.Since(start).Seconds())
}

func writePlain(folder string, ts []checkpoints.Named) error {
	if err := os.Mkdir(folder, 0o777); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(folder, "model.safetensors"))
	if err != nil {
		return err
	}
	if err := checkpoints.WriteSafetensors(f, ts, nil); err != nil {
		return err
	}
	return f.Close()
}

func writeDir(folder string, ts []checkpoints.Named) error {
	d, err := checkpoints.CreateDir(folder, false)
	if err != nil {
		return err
	}
	defer d.Abort()
	if err := checkpoints.WriteShards(d, ts, 0, nil); err != nil {
		return err
	}
	return d.Commit()
}

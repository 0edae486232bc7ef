package checkpoints

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// WriteShards writes tensors into a folder as Hugging Face lays them out: model.safetensors when they have at most limit
// bytes together (or limit is 0), else model-00001-of-0000N.safetensors and so on with model.safetensors.index.json. Tensors
// keep their order; a shard is closed before the tensor that would carry it over the limit, and a tensor beyond the limit
// gets a shard of its own. Each file carries the metadata.
func WriteShards(d *Dir, ts []Named, limit int64, metadata map[string]string) error {
	return writeShards(d, ts, limit, "model", ".safetensors", func(w io.Writer, ts []Named) error {
		return WriteSafetensors(w, ts, metadata)
	})
}

// WriteTorchShards is [WriteShards] in PyTorch's format: pytorch_model.bin, or pytorch_model-00001-of-0000N.bin and so on
// with pytorch_model.bin.index.json.
func WriteTorchShards(d *Dir, ts []Named, limit int64) error {
	return writeShards(d, ts, limit, "pytorch_model", ".bin", func(w io.Writer, ts []Named) error {
		return WriteTorch(w, ts, TorchOptions{})
	})
}

func writeShards(d *Dir, ts []Named, limit int64, stem, ext string, write func(io.Writer, []Named) error) error {
	shards, total, err := splitShards(ts, limit)
	if err != nil {
		return err
	}
	index := struct {
		Metadata struct {
			TotalSize int64 `json:"total_size"`
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}{WeightMap: make(map[string]string, len(ts))}
	index.Metadata.TotalSize = total
	for i, shard := range shards {
		name := stem + ext
		if len(shards) > 1 {
			name = fmt.Sprintf("%s-%05d-of-%05d%s", stem, i+1, len(shards), ext)
		}
		for _, t := range shard {
			if _, ok := index.WeightMap[t.Name]; ok {
				return fmt.Errorf("tensor %q: the name is taken twice", t.Name)
			}
			index.WeightMap[t.Name] = name
		}
		w, err := d.Create(name)
		if err != nil {
			return err
		}
		if err := errors.Join(write(w, shard), w.Close()); err != nil {
			return err
		}
	}
	if len(shards) == 1 {
		return nil
	}
	data, err := json.MarshalIndent(index, "", "  ") // keys come sorted
	if err != nil {
		return err
	}
	return d.WriteFile(stem+ext+".index.json", append(data, '\n'))
}

// splitShards cuts tensors into shards of at most limit bytes, as huggingface_hub does, and returns the bytes of all.
func splitShards(ts []Named, limit int64) (shards [][]Named, total int64, err error) {
	var shard []Named
	size := int64(0) // of shard
	for _, t := range ts {
		n, ok := product(append([]int{t.DType.Size()}, t.Shape...)...)
		if !ok || total+int64(n) < total {
			return nil, 0, fmt.Errorf("tensor %q: shape %v is out of range", t.Name, t.Shape)
		}
		total += int64(n)
		if limit > 0 && int64(n) > limit {
			shards = append(shards, []Named{t})
			continue
		}
		if limit > 0 && size+int64(n) > limit {
			shards, shard, size = append(shards, shard), nil, 0
		}
		shard, size = append(shard, t), size+int64(n)
	}
	if len(shard) > 0 || len(shards) == 0 {
		shards = append(shards, shard)
	}
	return shards, total, nil
}

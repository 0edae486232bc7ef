package sllm

// Likeliest returns the token that way i finds likeliest to follow the one last read by Step; the smallest of equals.
func (t *KVTrial) Likeliest(i int) int32 {
	n := len(t.logits) / len(t.ways)
	row, best := t.logits[i*n:(i+1)*n], 0
	for id, x := range row {
		if x > row[best] {
			best = id
		}
	}
	return int32(best)
}

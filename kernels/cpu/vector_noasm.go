//go:build !amd64 || noasm

package cpu

func add(out, a, b []float32)                         { addGo(out, a, b) }
func mulAdd(y, x []float32, alpha float32)            { mulAddGo(y, x, alpha) }
func scale(y, x []float32, alpha float32)             { scaleGo(y, x, alpha) }
func relu(out, x []float32)                           { reluGo(out, x) }
func reluBack(dx, dy, y []float32)                    { reluBackGo(dx, dy, y) }
func gelu(out, x []float32)                           { geluGo(out, x) }
func geluBack(dx, dy, x []float32)                    { geluBackGo(dx, dy, x) }
func geluTanh(out, x []float32)                       { geluTanhGo(out, x) }
func geluTanhBack(dx, dy, x []float32)                { geluTanhBackGo(dx, dy, x) }
func geglu(out, gate, up []float32)                   { gegluGo(out, gate, up) }
func gegluBack(dGate, dUp, dOut, gate, up []float32)  { gegluBackGo(dGate, dUp, dOut, gate, up) }
func swiglu(out, gate, up []float32)                  { swigluGo(out, gate, up) }
func swigluBack(dGate, dUp, dOut, gate, up []float32) { swigluBackGo(dGate, dUp, dOut, gate, up) }
func normBackX(dx, dy, x, w []float32, mean, rstd, avg, proj float32) {
	normBackXGo(dx, dy, x, w, mean, rstd, avg, proj)
}
func normBackW(dw, dy, x []float32, mean, rstd float32) { normBackWGo(dw, dy, x, mean, rstd) }
func slope(p, dp []float32, delta, scale float32)       { slopeGo(p, dp, delta, scale) }
func turn(re, im, a, b, cos, sin []float32)             { turnGo(re, im, a, b, cos, sin) }

func expSum(x []float32, scale, shift float32) float32 { return expSumGo(x, scale, shift) }
func maximum(x []float32) float32                      { return maxGo(x) }
func sum(x []float32) float32                          { return sumGo(x) }
func dot(a, b []float32) float32                       { return dotGo(a, b) }
func spread(x []float32, mean float32) float32         { return spreadGo(x, mean) }
func norm(out, x, w, b []float32, mean, rstd float32)  { normGo(out, x, w, b, mean, rstd) }
func adamw(w, m, v, g []float32, p *adam)              { adamwGo(w, m, v, g, p) }
func sumSquares(x []float32) float64                   { return sumSquaresGo(x) }
func normSums(dy, x, w []float32, mean, rstd float32) (sum, proj float32) {
	return normSumsGo(dy, x, w, mean, rstd)
}

package checkpoints
import ("testing";"time";"fmt";"os")
func TestZZ(t *testing.T){
 for _,f:=range []string{"f32","f16","bf16","t32"} { for range 2 {
  s:=time.Now(); w,err:=Open("/tmp/ck/"+f+".pt"); if err!=nil{t.Fatal(err)}
  o:=time.Since(s); s=time.Now(); n:=0
  dst:=make([]float32,1024*4096)
  for _,name:=range w.Names(){x,_:=w.Get(name); if err:=x.Float32(dst);err!=nil{t.Fatal(err)}; n+=x.Len()}
  fmt.Println(f,o,time.Since(s),n); w.Close()
 }}
 // write for python
 w,_:=Open("testdata/dtypes.pt"); var ts []Named
 for _,name:=range w.Names(){x,_:=w.Get(name); ts=append(ts,FromTensor(x))}
 v:=open(t,"testdata/views.pt")
 for _,name:=range v.Names(){x,_:=v.Get(name); ts=append(ts,FromTensor(x))}
 x,_:=v.Get("contiguous"); n:=FromTensor(x).As(BF16); n.Name="conv"; ts=append(ts,n)
 f,_:=os.Create("/tmp/ck/ours.safetensors")
 if err:=WriteSafetensors(f,ts,map[string]string{"format":"pt","k":"é"});err!=nil{t.Fatal(err)}
 f.Close()
}

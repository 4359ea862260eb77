use ecgflow::model::amdf::*; use ecgflow::model::vae; use candle_core::*; use candle_nn::*; use ecgflow::kernel::gemm::Precision;
fn main(){
  let arg=std::env::args().nth(1).unwrap();
  let map=|n:&str| n.to_string(); let _=map;
  struct R; impl candle_nn::var_builder::SimpleBackend for R { fn get(&self,s:Shape,_:&str,_:Init,d:DType,dev:&Device)->Result<Tensor>{ let n=s.elem_count(); let v:Vec<f32>=(0..n).map(|i| ((i as f32*12.9898).sin()*43758.547).fract()*0.05).collect(); Tensor::from_vec(v,s,dev)?.to_dtype(d)} fn get_unchecked(&self,_:&str,_:DType,_:&Device)->Result<Tensor>{unreachable!()} fn contains_tensor(&self,_:&str)->bool{true}}
  let vb=||VarBuilder::from_backend(Box::new(R),DType::F32,Device::Cpu);
  let x=Tensor::randn(0f32,1f32,(1,4,50,12,12),&Device::Cpu).unwrap();
  if arg=="v" {
  for p in [Precision::F32,Precision::Bf16] {
    let v=Velocity::with_precision(&Config::published(),p,vb()).unwrap();
    let f=Tensor::randn(0f32,1f32,(1,50,768),&Device::Cpu).unwrap(); let t=Tensor::new(&[0.5f32],&Device::Cpu).unwrap();
    let c=v.see(&f).unwrap(); let n=v.see(&f.zeros_like().unwrap()).unwrap();
    for _ in 0..3 { let s=std::time::Instant::now(); v.at(&x,&t,&c).unwrap(); let a=s.elapsed().as_secs_f64(); v.at(&x,&t,&n).unwrap(); let b=s.elapsed().as_secs_f64(); println!("{p:?} velocity {a:.3} pair {b:.3} {:.1} GF/s",1078.0/b); }
  }} else {
    let d=vae::Decoder::new(&vae::Config::published(),vb()).unwrap();
    for _ in 0..2 { let s=std::time::Instant::now(); d.forward(&x).unwrap(); println!("decode {:.2}",s.elapsed().as_secs_f64()); }
  }
}

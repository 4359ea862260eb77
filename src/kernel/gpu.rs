//! Kernels of an NVIDIA GPU, for what candle lacks or does slowly there: see `gpu/kernels.cu`.
//!
//! NVRTC compiles them when they are first needed. Maps are (B, C, T, H, W), f32; sums have a fixed order, so that the same
//! call gives the same bits.

use std::sync::OnceLock;

use candle_core::cuda_backend::cudarc::driver::{sys, CudaFunction, CudaSlice, CudaView, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc;
use candle_core::cuda_backend::WrapErr;
use candle_core::{bail, CudaDevice, Error, Result};

const SOURCE: &str = include_str!("gpu/kernels.cu");
/// Output channels and frames of a thread of the convolution; its pixels a block.
const OUT: usize = 16;
const FRAMES: usize = 4;
const PIXELS: usize = 128;
/// Input channels of a block of the kernel's gradient, its threads, and the parts it cuts a line into.
const IN: usize = 4;
const HALVES: usize = 2;
const WEIGHT_THREADS: usize = HALVES * IN * 36;
/// Blocks that keep a GPU busy.
const BUSY: usize = 1024;
/// Threads of a block of the normalisation.
const THREADS: usize = 512;
/// Longest line of the kernel's gradient.
pub const LONGEST_LINE: usize = 128;
/// Largest second and third side of a grid.
pub const GRID: usize = 65_535;

/// Numbers of a tensor.
type View<'a> = CudaView<'a, f32>;

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Cube {
    /// Records.
    pub batch: usize,
    /// Channels of input and output.
    pub channels: (usize, usize),
    /// Frames, rows, columns.
    pub map: [usize; 3],
}

/// Sizes of a group normalisation.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// Records.
    pub batch: usize,
    /// Channels and groups.
    pub channels: (usize, usize),
    /// Numbers of a channel.
    pub places: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether y sigmoid(y) follows.
    pub swish: bool,
}

/// Freed memory stays with the program: to hand it back at every synchronisation and ask for it again costs more than the
/// kernels do.
///
/// # Errors
/// Where the driver refuses.
pub fn keep_memory(device: &CudaDevice) -> Result<()> {
    let (mut pool, mut all) = (std::ptr::null_mut(), u64::MAX);
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let gpu = device.cuda_stream().context().cu_device();
    // SAFETY: the driver writes one pointer, then reads one u64.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, gpu).result().w()?;
        sys::cuMemPoolSetAttribute(pool, attribute, std::ptr::from_mut(&mut all).cast()).result().w()
    }
}

fn function(device: &CudaDevice, name: &str) -> Result<CudaFunction> {
    static PTX: OnceLock<String> = OnceLock::new();
    let ptx = match PTX.get() {
        Some(ptx) => ptx,
        None => {
            let ptx = nvrtc::compile_ptx(SOURCE).map_err(Error::wrap)?.to_src();
            PTX.get_or_init(|| ptx)
        }
    };
    Ok(device.get_or_load_custom_func(name, "ecgflow", ptx)?.into_cuda_function())
}

fn int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::Msg(format!("{n} is too large for a kernel")))
}

fn launch(grid: [usize; 3], threads: usize) -> Result<LaunchConfig> {
    let [x, y, z] = grid;
    if y > GRID || z > GRID {
        bail!("a grid of {grid:?} is too large")
    }
    Ok(LaunchConfig {
        grid_dim: (int(x)? as u32, y as u32, z as u32),
        block_dim: (threads as u32, 1, 1),
        shared_mem_bytes: 0,
    })
}

/// The views are as long as the sizes say; a kernel reads and writes nothing beyond.
fn check<const N: usize>(views: [(&View<'_>, usize); N]) -> Result<()> {
    for (view, wanted) in views {
        if view.len() != wanted {
            bail!("expected {wanted} numbers, found {}", view.len())
        }
    }
    Ok(())
}

impl Cube {
    fn places(&self) -> usize {
        self.map.iter().product()
    }

    fn ints(&self) -> Result<[i32; 5]> {
        let [t, h, w] = self.map;
        Ok([int(self.channels.0)?, int(self.channels.1)?, int(t)?, int(h)?, int(w)?])
    }

    /// 3 x 3 x 3 convolution with margin 1 of x (B, C, T, H, W) by w (27, C, O) and bias (O): (B, O, T, H, W).
    ///
    /// # Errors
    /// Where a length differs, or the GPU has no room.
    pub fn forward(&self, device: &CudaDevice, [x, w, bias]: [&View<'_>; 3]) -> Result<CudaSlice<f32>> {
        let (Cube { batch, channels: (c, o), map: [t, h, wide] }, places) = (*self, self.places());
        check([(x, batch * c * places), (w, 27 * c * o), (bias, o)])?;
        let stream = device.cuda_stream();
        let (f, [ci, oi, ti, hi, wi]) = (function(device, "cube")?, self.ints()?);
        // SAFETY: the kernel writes every number of y: each thread those of its pixel, frames and channels that exist.
        let mut y = unsafe { device.alloc::<f32>(batch * o * places)? };
        let grid = [(h * wide).div_ceil(PIXELS), batch * t.div_ceil(FRAMES), o.div_ceil(OUT)];
        let mut call = stream.launch_builder(&f);
        call.arg(x).arg(w).arg(bias).arg(&mut y).arg(&ci).arg(&oi).arg(&ti).arg(&hi).arg(&wi);
        // SAFETY: the arguments are those of the kernel; it stays within the lengths that were checked.
        unsafe { call.launch(launch(grid, PIXELS)?) }.w()?;
        Ok(y)
    }

    /// The gradient of w as sums to be added up: (parts, 27, C, O), and their number.
    ///
    /// # Errors
    /// Where a length differs, a line is longer than [`LONGEST_LINE`], or the GPU has no room.
    pub fn weight_gradient(&self, device: &CudaDevice, [x, dy]: [&View<'_>; 2]) -> Result<(CudaSlice<f32>, usize)> {
        let (Cube { batch, channels: (c, o), map: [t, h, wide] }, places) = (*self, self.places());
        check([(x, batch * c * places), (dy, batch * o * places)])?;
        if wide > LONGEST_LINE {
            bail!("a line of {wide} is too long")
        }
        let stream = device.cuda_stream();
        let (f, [ci, oi, ti, hi, wi], b) = (function(device, "cube_weights")?, self.ints()?, int(batch)?);
        int(batch * t * h)?;
        let (across, along) = (c.div_ceil(IN), o.div_ceil(OUT));
        let slices = (BUSY / (across * along)).clamp(1, batch * t * h);
        // SAFETY: the kernel writes every number: each block the sums of its slice, halves, taps and channels.
        let mut parts = unsafe { device.alloc::<f32>(slices * HALVES * 27 * c * o)? };
        let mut call = stream.launch_builder(&f);
        call.arg(x).arg(dy).arg(&mut parts).arg(&b).arg(&ci).arg(&oi).arg(&ti).arg(&hi).arg(&wi);
        // SAFETY: as above.
        unsafe { call.launch(launch([slices, across, along], WEIGHT_THREADS)?) }.w()?;
        Ok((parts, slices * HALVES))
    }
}

impl Norm {
    fn blocks(&self) -> [usize; 3] {
        [self.places.div_ceil(THREADS * 8).max(1), self.batch * self.channels.0, 1]
    }

    fn ints(&self) -> Result<([i32; 2], i64, i32)> {
        Ok(([int(self.channels.0)?, int(self.channels.1)?], self.places as i64, i32::from(self.swish)))
    }

    fn len(&self) -> usize {
        self.batch * self.channels.0 * self.places
    }

    /// Mean and reciprocal deviation of every group: (B, G, 2).
    ///
    /// # Errors
    /// Where a length differs, or the GPU has no room.
    pub fn moments(&self, device: &CudaDevice, x: &View<'_>) -> Result<CudaSlice<f32>> {
        check([(x, self.len())])?;
        let groups = self.batch * self.channels.1;
        let stream = device.cuda_stream();
        let (f, each) = (function(device, "moments")?, (self.len() / groups.max(1)) as i64);
        // SAFETY: the kernel writes two numbers a block.
        let mut moments = unsafe { device.alloc::<f32>(groups * 2)? };
        let mut call = stream.launch_builder(&f);
        call.arg(x).arg(&mut moments).arg(&each).arg(&self.eps);
        // SAFETY: the arguments are those of the kernel; it stays within the lengths that were checked.
        unsafe { call.launch(launch([groups, 1, 1], THREADS)?) }.w()?;
        Ok(moments)
    }

    /// x (B, C, N) normalised: arguments x, moments, scale (C), offset (C).
    ///
    /// # Errors
    /// Where a length differs, or the GPU has no room.
    pub fn forward(&self, device: &CudaDevice, [x, moments, scale, offset]: [&View<'_>; 4]) -> Result<CudaSlice<f32>> {
        let (c, g) = self.channels;
        check([(x, self.len()), (moments, self.batch * g * 2), (scale, c), (offset, c)])?;
        let stream = device.cuda_stream();
        let (f, ([c, g], n, swish)) = (function(device, "normalise")?, self.ints()?);
        // SAFETY: the kernel writes every number of y.
        let mut y = unsafe { device.alloc::<f32>(self.len())? };
        let mut call = stream.launch_builder(&f);
        call.arg(x).arg(moments).arg(scale).arg(offset).arg(&mut y).arg(&c).arg(&g).arg(&n).arg(&swish);
        // SAFETY: as above.
        unsafe { call.launch(launch(self.blocks(), THREADS)?) }.w()?;
        Ok(y)
    }

    /// The gradient of x, and for offset and scale sums over each map: (2, B, C). Arguments x, dy, moments, scale, offset.
    ///
    /// # Errors
    /// Where a length differs, or the GPU has no room.
    pub fn backward(
        &self,
        device: &CudaDevice,
        [x, dy, moments, scale, offset]: [&View<'_>; 5],
    ) -> Result<(CudaSlice<f32>, CudaSlice<f32>)> {
        let (c, g) = self.channels;
        check([(x, self.len()), (dy, self.len()), (moments, self.batch * g * 2), (scale, c), (offset, c)])?;
        let ([ci, gi], n, swish) = self.ints()?;
        let stream = device.cuda_stream();
        let (sum, back) = (function(device, "normalise_sums")?, function(device, "normalise_back")?);
        // SAFETY: the kernels write two numbers a map, and every number of dx.
        let (mut sums, mut dx) =
            unsafe { (device.alloc::<f32>(2 * self.batch * c)?, device.alloc::<f32>(self.len())?) };
        let mut call = stream.launch_builder(&sum);
        call.arg(x).arg(dy).arg(moments).arg(scale).arg(offset).arg(&mut sums).arg(&ci).arg(&gi).arg(&n).arg(&swish);
        // SAFETY: the arguments are those of the kernel; it stays within the lengths that were checked.
        unsafe { call.launch(launch([self.batch * c, 1, 1], THREADS)?) }.w()?;
        let mut call = stream.launch_builder(&back);
        call.arg(x).arg(dy).arg(moments).arg(scale).arg(offset).arg(&sums).arg(&mut dx);
        call.arg(&ci).arg(&gi).arg(&n).arg(&swish);
        // SAFETY: as above.
        unsafe { call.launch(launch(self.blocks(), THREADS)?) }.w()?;
        Ok((dx, sums))
    }
}

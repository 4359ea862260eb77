// Kernels for an NVIDIA GPU: the 3 x 3 x 3 convolution of the 3D-VAE and group normalisation, with their gradients.
// Compiled when a program first needs them. Maps are (B, C, T, H, W), all numbers f32, all sums in a fixed order.

#define OUT 16   // output channels of a thread
#define FRAMES 4 // frames of a thread
#define CHUNK 8  // input channels whose weights are shared at a time

// y = conv(x) with margin 1; w (27, C, O), bias (O). Thread: one pixel, FRAMES frames, OUT channels.
// Grid: (pixels / threads, B * frames / FRAMES, O / OUT).
extern "C" __global__ void cube(const float* __restrict__ x, const float* __restrict__ w,
                                const float* __restrict__ bias, float* __restrict__ y, int C, int O, int T, int H, int W) {
  __shared__ __align__(16) float ws[CHUNK * 27 * OUT];
  const int pixels = H * W, pieces = (T + FRAMES - 1) / FRAMES;
  const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
  const int b = blockIdx.y / pieces, t0 = (blockIdx.y % pieces) * FRAMES, o0 = blockIdx.z * OUT;
  const int row = pixel / W, column = pixel % W;
  const bool inside = pixel < pixels;
  float sum[FRAMES][OUT];
  for (int o = 0; o < OUT; o++) {
    const float start = o0 + o < O ? bias[o0 + o] : 0.f;
    for (int t = 0; t < FRAMES; t++) sum[t][o] = start;
  }
  for (int c0 = 0; c0 < C; c0 += CHUNK) {
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * 27 * OUT; i += blockDim.x) {
      const int o = i % OUT, tap = i / OUT % 27, c = i / (OUT * 27);
      const bool real = c0 + c < C && o0 + o < O;
      ws[i] = real ? w[((long long)tap * C + c0 + c) * O + o0 + o] : 0.f;
    }
    __syncthreads();
    if (!inside) continue;
    const int channels = min(CHUNK, C - c0);
    for (int c = 0; c < channels; c++) {
      const float* map = x + ((long long)b * C + c0 + c) * T * pixels;
      for (int k = 0; k < 9; k++) {
        const int r = row + k / 3 - 1, q = column + k % 3 - 1;
        if (r < 0 || r >= H || q < 0 || q >= W) continue;
        float in[FRAMES + 2];
#pragma unroll
        for (int t = 0; t < FRAMES + 2; t++) {
          const int frame = t0 + t - 1;
          in[t] = frame >= 0 && frame < T ? map[(long long)frame * pixels + r * W + q] : 0.f;
        }
#pragma unroll
        for (int dt = 0; dt < 3; dt++) {
          const float4* tap = reinterpret_cast<const float4*>(ws + (c * 27 + dt * 9 + k) * OUT);
#pragma unroll
          for (int four = 0; four < OUT / 4; four++) {
            const float4 v = tap[four];
#pragma unroll
            for (int t = 0; t < FRAMES; t++) {
              const float here = in[t + dt];
              sum[t][four * 4] += v.x * here;
              sum[t][four * 4 + 1] += v.y * here;
              sum[t][four * 4 + 2] += v.z * here;
              sum[t][four * 4 + 3] += v.w * here;
            }
          }
        }
      }
    }
  }
  if (!inside) return;
#pragma unroll
  for (int o = 0; o < OUT; o++) {
    if (o0 + o >= O) continue;
#pragma unroll
    for (int t = 0; t < FRAMES; t++) {
      if (t0 + t < T) y[(((long long)b * O + o0 + o) * T + t0 + t) * pixels + pixel] = sum[t][o];
    }
  }
}

#define IN 4      // input channels of a block
#define LINE 128  // longest line
#define HALVES 2  // parts of a line that are summed apart
// Threads of a block of cube_weights: half of the line, input channel, four output channels, frame and line of the tap.
#define WEIGHT_THREADS (HALVES * IN * 36)

// Partial sums of the gradient of w: part (slices * HALVES, 27, C, O). Block: IN input and OUT output channels, every
// slices-th line. Grid: (slices, C / IN, O / OUT).
extern "C" __global__ void cube_weights(const float* __restrict__ x, const float* __restrict__ dy,
                                        float* __restrict__ part, int B, int C, int O, int T, int H, int W) {
  __shared__ float xs[IN * 9 * (LINE + 2)];
  __shared__ __align__(16) float ds[LINE * OUT];
  const int c0 = blockIdx.y * IN, o0 = blockIdx.z * OUT, wide = W + 2;
  const int half = threadIdx.x / (IN * 36), rest = threadIdx.x % (IN * 36);
  const int c = rest / 36, four = rest % 36 % 4, k = rest % 36 / 4;
  const int from = half * W / HALVES, to = (half + 1) * W / HALVES;
  float sum[3][4] = {};
  for (int line = blockIdx.x; line < B * T * H; line += gridDim.x) {
    const int b = line / (T * H), t = line / H % T, h = line % H;
    __syncthreads();
    for (int i = threadIdx.x; i < IN * 9 * wide; i += blockDim.x) {
      const int q = i % wide - 1, tap = i / wide % 9, channel = c0 + i / (wide * 9);
      const int frame = t + tap / 3 - 1, row = h + tap % 3 - 1;
      const bool real = channel < C && frame >= 0 && frame < T && row >= 0 && row < H && q >= 0 && q < W;
      xs[i] = real ? x[((((long long)b * C + channel) * T + frame) * H + row) * W + q] : 0.f;
    }
    for (int i = threadIdx.x; i < OUT * W; i += blockDim.x) {
      const int q = i % W, o = i / W;
      ds[q * OUT + o] = o0 + o < O ? dy[((((long long)b * O + o0 + o) * T + t) * H + h) * W + q] : 0.f;
    }
    __syncthreads();
    const float* in = xs + (c * 9 + k) * wide;
    float left = in[from], middle = in[from + 1];
    for (int q = from; q < to; q++) {
      const float right = in[q + 2];
      const float4 d = *reinterpret_cast<const float4*>(ds + q * OUT + four * 4);
      sum[0][0] += left * d.x; sum[0][1] += left * d.y; sum[0][2] += left * d.z; sum[0][3] += left * d.w;
      sum[1][0] += middle * d.x; sum[1][1] += middle * d.y; sum[1][2] += middle * d.z; sum[1][3] += middle * d.w;
      sum[2][0] += right * d.x; sum[2][1] += right * d.y; sum[2][2] += right * d.z; sum[2][3] += right * d.w;
      left = middle;
      middle = right;
    }
  }
  if (c0 + c >= C) return;
  float* mine = part + (long long)(blockIdx.x * HALVES + half) * 27 * C * O;
  for (int dx = 0; dx < 3; dx++) {
    for (int o = 0; o < 4; o++) {
      const int channel = o0 + four * 4 + o;
      if (channel < O) mine[((long long)(k * 3 + dx) * C + c0 + c) * O + channel] = sum[dx][o];
    }
  }
}

// The sum over the block's threads of v, for all of them; blockDim.x a power of two.
__device__ float total(float v, float* all) {
  __syncthreads();
  all[threadIdx.x] = v;
  __syncthreads();
  for (int n = blockDim.x / 2; n > 0; n /= 2) {
    if (threadIdx.x < n) all[threadIdx.x] += all[threadIdx.x + n];
    __syncthreads();
  }
  return all[0];
}

#define THREADS 512 // of a block that sums

// Mean and 1 / deviation of each group: x (B, G, N), moments (B, G, 2). A block a group.
extern "C" __global__ void moments(const float* __restrict__ x, float* __restrict__ moments, long long N, float eps) {
  __shared__ float all[THREADS];
  const float* group = x + blockIdx.x * N;
  float sum = 0.f;
  for (long long i = threadIdx.x; i < N; i += blockDim.x) sum += group[i];
  const float mean = total(sum, all) / N;
  sum = 0.f;
  for (long long i = threadIdx.x; i < N; i += blockDim.x) sum += (group[i] - mean) * (group[i] - mean);
  const float variance = total(sum, all) / N;
  if (threadIdx.x == 0) {
    moments[2 * blockIdx.x] = mean;
    moments[2 * blockIdx.x + 1] = rsqrtf(variance + eps);
  }
}

// y = scale (x - mean) / deviation + offset, then y sigmoid(y) where swish: x (B, C, N). Grid: (pieces of N, B C).
extern "C" __global__ void normalise(const float* __restrict__ x, const float* __restrict__ moments,
                                     const float* __restrict__ scale, const float* __restrict__ offset,
                                     float* __restrict__ y, int C, int G, long long N, int swish) {
  const int map = blockIdx.y, c = map % C, group = map / C * G + c / (C / G);
  const float a = scale[c] * moments[2 * group + 1], z0 = offset[c] - a * moments[2 * group];
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < N; i += (long long)gridDim.x * blockDim.x) {
    const float z = a * x[map * N + i] + z0;
    y[map * N + i] = swish ? z / (1.f + expf(-z)) : z;
  }
}

// The gradient of z, the value before swish.
__device__ float before(float z, float dy, int swish) {
  if (!swish) return dy;
  const float s = 1.f / (1.f + expf(-z));
  return dy * s * (1.f + z * (1.f - s));
}

// Sums over each map of dz and of dz (x - mean) / deviation: sums (2, B, C). A block a map.
extern "C" __global__ void normalise_sums(const float* __restrict__ x, const float* __restrict__ dy,
                                          const float* __restrict__ moments, const float* __restrict__ scale,
                                          const float* __restrict__ offset, float* __restrict__ sums, int C, int G,
                                          long long N, int swish) {
  __shared__ float all[THREADS];
  const int map = blockIdx.x, c = map % C, group = map / C * G + c / (C / G);
  const float mean = moments[2 * group], inverse = moments[2 * group + 1];
  float first = 0.f, second = 0.f;
  for (long long i = threadIdx.x; i < N; i += blockDim.x) {
    const float h = (x[map * N + i] - mean) * inverse;
    const float dz = before(scale[c] * h + offset[c], dy[map * N + i], swish);
    first += dz;
    second += dz * h;
  }
  first = total(first, all);
  second = total(second, all);
  if (threadIdx.x == 0) {
    sums[map] = first;
    sums[gridDim.x + map] = second;
  }
}

// The gradient of x. Grid: (pieces of N, B C).
extern "C" __global__ void normalise_back(const float* __restrict__ x, const float* __restrict__ dy,
                                          const float* __restrict__ moments, const float* __restrict__ scale,
                                          const float* __restrict__ offset, const float* __restrict__ sums,
                                          float* __restrict__ dx, int C, int G, long long N, int swish) {
  const int map = blockIdx.y, c = map % C, each = C / G, group = map / C * G + c / each;
  const float mean = moments[2 * group], inverse = moments[2 * group + 1];
  float first = 0.f, second = 0.f;
  for (int i = 0; i < each; i++) {
    const int other = c / each * each + i, there = map - c + other;
    first += scale[other] * sums[there];
    second += scale[other] * sums[gridDim.y + there];
  }
  first /= N * each;
  second /= N * each;
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < N; i += (long long)gridDim.x * blockDim.x) {
    const float h = (x[map * N + i] - mean) * inverse;
    const float dz = before(scale[c] * h + offset[c], dy[map * N + i], swish);
    dx[map * N + i] = inverse * (scale[c] * dz - first - h * second);
  }
}

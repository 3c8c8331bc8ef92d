// Streaming sample rate conversion: a windowed-sinc low-pass filter, evaluated only at the output's
// instants (polyphase; J. O. Smith, "Digital Audio Resampling", CCRMA). Its delay is HALF_WIDTH
// samples of the lower rate: 2 ms at 16 kHz.

// Zero crossings of the sinc on each side. With the Kaiser window below: 80 dB of attenuation, and a
// transition band of 0.08 of the lower rate (Kaiser's formula), which CUTOFF keeps below its Nyquist.
const HALF_WIDTH = 32;
const KAISER_BETA = 8;
const CUTOFF = 0.46;

export class Resampler {
  /** Rates in Hz, whole numbers. */
  constructor(from, to) {
    const divisor = greatestCommonDivisor(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    this.reach = Math.ceil(HALF_WIDTH * Math.max(1, from / to));
    this.filters = from === to ? null : polyphase(this.up, this.reach, Math.min(1, to / from));
    this.reset();
  }

  /** Forget the past: what comes next is another sound. */
  reset() {
    this.phase = 0;
    this.position = this.reach - 1; // of the sample at or before the next output, in `past`
    this.past = new Float32Array(this.reach - 1);
  }

  /** Take samples (Float32Array) and return those that are complete at the new rate. */
  process(samples) {
    if (!this.filters) return samples.slice();
    const input = joined(this.past, samples);
    const last = input.length - this.reach;
    const room = Math.max(0, Math.ceil(((last - this.position) * this.up) / this.down) + 1);
    const output = new Float32Array(room);
    let count = 0;
    while (this.position < last) {
      output[count++] = dot(this.filters[this.phase], input, this.position - this.reach + 1);
      this.phase += this.down;
      this.position += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    const keep = Math.min(this.position - this.reach + 1, input.length);
    this.past = input.slice(keep);
    this.position -= keep;
    return output.subarray(0, count);
  }

  /** The rest of a sound that is over. */
  flush() {
    const rest = this.process(new Float32Array(this.filters ? this.reach : 0));
    this.reset();
    return rest;
  }
}

function dot(filter, input, start) {
  let sum = 0;
  for (let tap = 0; tap < filter.length; tap++) sum += filter[tap] * input[start + tap];
  return sum;
}

/** One filter of 2 * reach taps for each fraction of an input sample. `ratio`: to / from, at most 1. */
function polyphase(phases, reach, ratio) {
  const bandwidth = 2 * CUTOFF * ratio;
  return Array.from({ length: phases }, (_, phase) => {
    const filter = new Float32Array(2 * reach);
    for (let tap = 0; tap < filter.length; tap++) {
      const distance = tap - (reach - 1) - phase / phases;
      filter[tap] = sinc(distance * bandwidth) * kaiser(distance / reach);
    }
    const sum = filter.reduce((total, value) => total + value, 0);
    return filter.map((value) => value / sum);
  });
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function kaiser(x) {
  return Math.abs(x) > 1 ? 0 : bessel(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel(KAISER_BETA);
}

/** The modified Bessel function I0, by its power series. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-12; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function joined(first, second) {
  const both = new Float32Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

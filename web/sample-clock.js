// When a sample of the connection's sound was spoken. The server counts samples; sound may be sent
// with pauses between (hold to talk), so each pause begins a new stretch of the count.

const PAUSE = 300; // ms between what is expected and what is; less is the unevenness of the browser

export class SampleClock {
  constructor(rate) {
    this.rate = rate;
    this.stretches = [];
    this.count = 0;
  }

  /** So many samples are sent; the last of them was spoken at `now` (ms). */
  sent(samples, now) {
    const began = now - (samples / this.rate) * 1000;
    const expected = this.timeOf(this.count / this.rate);
    if (expected === null || Math.abs(began - expected) > PAUSE) {
      this.stretches.push({ first: this.count, time: began });
    }
    this.count += samples;
  }

  /** When the sample at so many seconds of sound was spoken (ms); null before the first. */
  timeOf(seconds) {
    const sample = seconds * this.rate;
    const stretch = this.stretches.findLast(({ first }) => first <= sample);
    return stretch ? stretch.time + ((sample - stretch.first) / this.rate) * 1000 : null;
  }
}

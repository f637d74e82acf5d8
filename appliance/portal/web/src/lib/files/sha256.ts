// SHA-256 of what comes in pieces: the browser's own takes a whole only, and files do not fit into memory.
//
//	const h = new SHA256();
//	h.write(bytes);
//	h.hex();

const rounds = 64;

// The constants of FIPS 180-4: fractions of the square and cube roots of the first primes.
const [initial, k] = (() => {
  const primes: number[] = [];
  for (let n = 2; primes.length < rounds; n++) if (primes.every((p) => n % p !== 0)) primes.push(n);
  const fraction = (x: number) => ((x - Math.floor(x)) * 2 ** 32) >>> 0;
  return [Uint32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p))), Uint32Array.from(primes, (p) => fraction(Math.cbrt(p)))];
})();

export class SHA256 {
  private readonly state = initial.slice();
  private readonly w = new Uint32Array(rounds);
  private readonly rest = new Uint8Array(64);
  private kept = 0;
  private length = 0;

  write(bytes: Uint8Array): this {
    this.length += bytes.length;
    let at = 0;
    if (this.kept > 0) {
      at = Math.min(64 - this.kept, bytes.length);
      this.rest.set(bytes.subarray(0, at), this.kept);
      this.kept += at;
      if (this.kept < 64) return this;
      this.block(this.rest, 0);
      this.kept = 0;
    }
    for (; at + 64 <= bytes.length; at += 64) this.block(bytes, at);
    this.rest.set(bytes.subarray(at));
    this.kept = bytes.length - at;
    return this;
  }

  hex(): string {
    const tail = new Uint8Array(this.kept < 56 ? 64 : 128);
    tail.set(this.rest.subarray(0, this.kept));
    tail[this.kept] = 0x80;
    new DataView(tail.buffer).setBigUint64(tail.length - 8, BigInt(this.length) * 8n);
    const state = this.state.slice();
    for (let at = 0; at < tail.length; at += 64) this.block(tail, at);
    const sum = Array.from(this.state, (n) => n.toString(16).padStart(8, '0')).join('');
    this.state.set(state);
    return sum;
  }

  private block(b: Uint8Array, at: number): void {
    const { w, state } = this;
    for (let i = 0; i < 16; i++, at += 4) w[i] = (b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!;
    for (let i = 16; i < rounds; i++) {
      const x = w[i - 15]!;
      const y = w[i - 2]!;
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0;
    }
    let a = state[0]! | 0;
    let b1 = state[1]! | 0;
    let c = state[2]! | 0;
    let d = state[3]! | 0;
    let e = state[4]! | 0;
    let f = state[5]! | 0;
    let g = state[6]! | 0;
    let h = state[7]! | 0;
    for (let i = 0; i < rounds; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + k[i]! + w[i]!) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b1) ^ (a & c) ^ (b1 & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b1;
      b1 = a;
      a = (t1 + t2) | 0;
    }
    state[0]! += a;
    state[1]! += b1;
    state[2]! += c;
    state[3]! += d;
    state[4]! += e;
    state[5]! += f;
    state[6]! += g;
    state[7]! += h;
  }
}

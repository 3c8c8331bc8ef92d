// The two sockets: connects, says how it stands, comes back by itself, to the same session if it can.
//
// States, as {name, …}:
//   idle                        nothing is wanted; the server is there
//   connecting                  on the way
//   loading    {reason}         the server is there, its models are not ready
//   ready      {server}         go: the server's SERVER_READY message
//   full       {minutes, at}    every place is taken; tried again at the time `at` (ms)
//   lost       {at}             no server; tried again at the time `at`
//   refused    {reason}         the server does not want this client; only the person can mend that

const HEALTH_TIMEOUT = 5000;
const CONNECT_TIMEOUT = 10000;
const LOADING_RETRY = 2000;
const PATIENCE = 1500; // a ready server answers sooner; after this the person is told why they wait
const FULL_RETRY = 20000; // somebody may leave before their time is over
const FULL_SOONEST = 1000; // a time that is over may still have to end
const REFUSED = 1008;
const DONE = 1000; // close codes: the session is over; or its connection alone
const BACK_SOON = 4000;
const RESUME_PATIENCE = 30000; // as long as the server keeps a session whose connection was lost
const SOUND_PATIENCE = 5000; // as long as it keeps sound for a connection that was lost
const SPEECH_RATE = 24000;
const SUBPROTOCOL = "whisperfusion"; // the server answers it where a token is shown in another
const TOKEN_PROTOCOL = "whisperfusion-token.";
const STARTING = [502, 503, 504]; // what a proxy answers for a server that is not up yet
const BACKLOG = 320000; // bytes: ten seconds of sound

export class Connection {
  /**
   * `address`: see address.js. `handshake()` returns the fields of the first message.
   * `handlers`: onState(state), onMessage(message) for each JSON message of the transcription
   * socket, onSound(message or ArrayBuffer), onSoundState(open), onDropped(forgotten) when a session is
   * over, with whether the server forgot it that it was to go on with, onTimeLimit().
   */
  constructor(address, handshake, handlers, { WebSocket, fetch } = globalThis) {
    this.address = address;
    this.handshake = handshake;
    this.handlers = handlers;
    this.WebSocket = WebSocket;
    this.fetch = (...request) => fetch(...request);
    this.state = { name: "idle" };
    this.wanted = false;
    this.failures = 0;
    this.attempt = 0;
    this.timer = null;
    this.transcription = null;
    this.audio = null;
    this.audioKey = null; // for the next audio socket: each opens one
    this.resumeKey = null; // of the session, which outlives its connection
    this.forgetting = null; // timer: the session is given up
    this.soundLost = null; // timer: so is its sound
    this.incoming = null; // {turn, samples} of the reply whose sound comes in
  }

  /** Look whether the server is there, without taking one of its places. */
  check() {
    if (!this.wanted) this.start();
  }

  /** Connect, and stay connected until `close`. */
  open() {
    if (this.wanted && this.state.name !== "refused") return;
    this.wanted = true;
    this.start();
  }

  /** Connect anew, because what the handshake says has changed. */
  renew() {
    if (!this.wanted) return;
    this.drop();
    this.start();
  }

  /** Do not wait any longer. */
  retry() {
    this.failures = 0;
    this.start();
  }

  close() {
    this.wanted = false;
    this.drop();
    this.become({ name: "idle" });
  }

  get connected() {
    return this.transcription !== null && this.state.name === "ready";
  }

  /** Send sound (Int16Array); returns false when it could not be sent. */
  sendSound(samples) {
    if (!this.connected || this.transcription.bufferedAmount > BACKLOG) return false;
    this.transcription.send(samples);
    return true;
  }

  /** Send a command as in docs/protocol.md; returns false when not connected. */
  command(name, fields = {}) {
    if (!this.connected) return false;
    this.transcription.send(JSON.stringify({ command: name, ...fields }));
    return true;
  }

  become(state) {
    this.state = state;
    this.handlers.onState(state);
  }

  /** End the session; whatever still comes of it is ignored. */
  drop() {
    const suspended = this.transcription === null && this.resumeKey !== null;
    this.resumeKey = null;
    this.leave(DONE);
    if (suspended) this.forget();
  }

  /** End the connection; the session goes on with the next one, if that comes soon. */
  leave(code = BACK_SOON) {
    this.attempt++;
    clearTimeout(this.timer);
    const socket = this.transcription;
    this.transcription = null;
    socket?.close(code);
    if (socket && this.resumeKey === null) this.forget();
    else if (this.resumeKey !== null) this.forgetting ??= setTimeout(() => this.forget(), RESUME_PATIENCE);
  }

  /** The session is over; `forgotten` by the server, which must have been restarted. */
  forget(forgotten = false) {
    clearTimeout(this.forgetting);
    this.forgetting = null;
    this.resumeKey = null;
    this.dropSound();
    this.handlers.onDropped(forgotten);
  }

  later(delay, state) {
    this.become({ ...state, at: Date.now() + delay });
    this.timer = setTimeout(() => this.start(), delay);
  }

  async start() {
    this.leave();
    const attempt = this.attempt;
    if (this.state.name !== "loading") this.become({ name: "connecting" });
    const health = await this.health();
    if (attempt !== this.attempt) return;
    if (health.lost) this.lost();
    else if (health.reason) this.later(LOADING_RETRY, { name: "loading", reason: health.reason });
    else if (this.wanted) this.connect(attempt);
    else this.become({ name: "idle" });
  }

  giveUp() {
    this.leave();
    this.lost();
  }

  lost() {
    this.failures++;
    this.later(backoff(this.failures), { name: "lost" });
  }

  /** {}: fine, or not to be had; {reason}: not ready; {lost: true}: nobody answers. */
  async health() {
    if (!this.address.health) return {};
    try {
      const response = await this.fetch(this.address.health, {
        cache: "no-store",
        signal: AbortSignal.timeout(HEALTH_TIMEOUT),
      });
      if (!STARTING.includes(response.status)) return {};
      const text = (await response.text()).trim();
      const plain = response.headers.get("content-type")?.startsWith("text/plain");
      return { reason: (plain && text) || "the server is starting" };
    } catch (error) {
      if (error instanceof TypeError || error instanceof DOMException) return { lost: true };
      throw error;
    }
  }

  connect(attempt) {
    const socket = new this.WebSocket(this.address.transcription, this.protocols());
    socket.binaryType = "arraybuffer";
    this.transcription = socket;
    this.timer = setTimeout(() => this.giveUp(), CONNECT_TIMEOUT);
    const uid = newIdentity();
    let ending = null; // what the server said before it closed
    const current = () => attempt === this.attempt;
    socket.onopen = () => {
      if (!current()) return;
      clearTimeout(this.timer);
      const resume = this.resumeKey === null ? {} : { resume: this.resumeKey };
      socket.send(JSON.stringify({ uid, ...this.handshake(), ...resume }));
      this.timer = setTimeout(
        () => this.become({ name: "loading", reason: "waiting for the server" }),
        PATIENCE,
      );
    };
    socket.onmessage = ({ data }) => {
      if (!current()) return;
      const message = JSON.parse(data);
      if (message.message === "SERVER_READY") this.ready(message);
      else if (message.event === "audio_key") this.audioKey = message.audio_key;
      else if (message.status === "WAIT" || message.message === "DISCONNECT") ending = message;
      else {
        if (message.status === "ERROR") ending = message;
        this.handlers.onMessage(message);
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (current()) this.ended(code, reason, ending);
    };
  }

  ready(message) {
    clearTimeout(this.timer);
    clearTimeout(this.forgetting);
    this.forgetting = null;
    this.failures = 0;
    if (this.resumeKey !== null && !message.resumed) this.forget(true);
    this.resumeKey = message.resume_key ?? null;
    this.audioKey = message.audio_key ?? null;
    this.become({ name: "ready", server: message });
  }

  /** Let the replies' sound come as well; for this session, once it is ready. */
  openSound() {
    if (this.audio?.readyState === 1) this.handlers.onSoundState(true); // it outlived the other socket
    else if (!this.audio && this.soundLost === null) this.listen(0);
  }

  ended(code, reason, ending) {
    if (ending?.message === "DISCONNECT" || code === REFUSED) this.drop();
    else this.leave();
    if (ending?.status === "WAIT") {
      const delay = Math.max(FULL_SOONEST, Math.min(ending.message * 60000, FULL_RETRY));
      this.later(delay, { name: "full", minutes: ending.message });
    } else if (ending?.message === "DISCONNECT") {
      this.handlers.onTimeLimit();
      if (this.wanted) this.start();
    } else if (code === REFUSED) {
      const why = ending?.message || reason || "The server refused the connection.";
      this.become({ name: "refused", reason: why });
    } else this.lost();
  }

  /** Subprotocols that show the token: an address would be written down on the way. */
  protocols() {
    const { token } = this.handshake();
    return token ? [SUBPROTOCOL, TOKEN_PROTOCOL + percentEncoded(token)] : [];
  }

  /** The sound of the replies. It comes back on its own while the conversation goes on. */
  listen(failures) {
    const key = this.audioKey;
    const url = new URL(this.address.audio);
    url.searchParams.set("key", key);
    if (this.incoming !== null) {
      url.searchParams.set("turn", this.incoming.turn);
      url.searchParams.set("received", (this.incoming.samples / SPEECH_RATE).toFixed(4));
    }
    const socket = new this.WebSocket(url.href, this.protocols());
    socket.binaryType = "arraybuffer";
    this.audio = socket;
    const current = () => this.audio === socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      if (!current()) return;
      clearTimeout(this.soundLost);
      this.soundLost = null;
      this.handlers.onSoundState(true);
    };
    socket.onmessage = ({ data }) => {
      if (!current()) return;
      const message = typeof data === "string" ? JSON.parse(data) : data;
      this.count(message);
      this.handlers.onSound(message);
    };
    socket.onclose = ({ code }) => {
      if (!current()) return;
      if (code === REFUSED && key === this.audioKey) {
        this.dropSound(); // the session is gone, as its own socket will tell
        return;
      }
      this.audio = null;
      this.soundLost ??= setTimeout(() => this.handlers.onSoundState(false), SOUND_PATIENCE);
      const tries = opened ? 0 : failures + 1;
      this.soundTimer = setTimeout(() => this.listen(tries), backoff(tries));
    };
  }

  /** Keep count of the sound of a reply, so that a new connection goes on where this one broke. */
  count(message) {
    if (message instanceof ArrayBuffer) {
      if (this.incoming) this.incoming.samples += message.byteLength / 4;
    } else if (message.event === "reply_start") {
      this.incoming = { turn: message.turn, samples: Math.round((message.at ?? 0) * SPEECH_RATE) };
    } else if (message.event === "reply_end" || message.event === "flush") this.incoming = null;
  }

  dropSound() {
    clearTimeout(this.soundTimer);
    clearTimeout(this.soundLost);
    const socket = this.audio;
    const wanted = socket !== null || this.soundLost !== null;
    this.audio = this.soundLost = this.incoming = null;
    socket?.close(DONE);
    if (wanted) this.handlers.onSoundState(false);
  }
}

/** Milliseconds until the next try: twice as long after each failure, up to 15 s, never in step. */
export function backoff(failures, random = Math.random) {
  return Math.min(15000, 500 * 2 ** Math.max(0, failures - 1)) * (0.75 + random() / 2);
}

/** As encodeURIComponent, and without the parentheses that it leaves; no subprotocol may have them. */
function percentEncoded(text) {
  return encodeURIComponent(text).replace(/[()]/g, (each) => `%${each.charCodeAt(0).toString(16)}`);
}

/** `crypto.randomUUID` is missing where the page is no secure context. */
function newIdentity() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

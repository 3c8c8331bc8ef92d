// The two sockets: connects, says how it stands, comes back by itself.
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
const STARTING = [502, 503, 504]; // what a proxy answers for a server that is not up yet
const BACKLOG = 320000; // bytes: ten seconds of sound

export class Connection {
  /**
   * `address`: see address.js. `handshake()` returns the fields of the first message.
   * `handlers`: onState(state), onMessage(message) for each JSON message of the transcription
   * socket, onSound(message or ArrayBuffer), onSoundState(open), onDropped() when a session is over,
   * onTimeLimit().
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
    if (this.wanted) this.start();
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

  /** End what is under way; whatever still comes of it is ignored. */
  drop() {
    this.attempt++;
    clearTimeout(this.timer);
    clearTimeout(this.soundTimer);
    const socket = this.transcription;
    this.transcription = null;
    this.dropSound();
    if (!socket) return;
    socket.close();
    this.handlers.onDropped();
  }

  later(delay, state) {
    this.become({ ...state, at: Date.now() + delay });
    this.timer = setTimeout(() => this.start(), delay);
  }

  async start() {
    this.drop();
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
    this.drop();
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
    const socket = new this.WebSocket(this.address.transcription);
    socket.binaryType = "arraybuffer";
    this.transcription = socket;
    this.timer = setTimeout(() => this.giveUp(), CONNECT_TIMEOUT);
    const uid = newIdentity();
    let ending = null; // what the server said before it closed
    const current = () => attempt === this.attempt;
    socket.onopen = () => {
      if (!current()) return;
      clearTimeout(this.timer);
      socket.send(JSON.stringify({ uid, ...this.handshake() }));
      this.timer = setTimeout(
        () => this.become({ name: "loading", reason: "waiting for the server" }),
        PATIENCE,
      );
    };
    socket.onmessage = ({ data }) => {
      if (!current()) return;
      const message = JSON.parse(data);
      if (message.message === "SERVER_READY") this.ready(message);
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
    this.failures = 0;
    this.become({ name: "ready", server: message });
  }

  /** Let the replies' sound come as well; for this session, once it is ready. */
  openSound() {
    this.listen(this.state.server.audio_key, this.attempt, 0);
  }

  ended(code, reason, ending) {
    this.drop();
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

  /** The sound of the replies. It comes back on its own while the conversation goes on. */
  listen(key, attempt, failures) {
    const url = new URL(this.address.audio);
    url.searchParams.set("key", key);
    const { token } = this.handshake();
    if (token) url.searchParams.set("token", token);
    const socket = new this.WebSocket(url.href);
    socket.binaryType = "arraybuffer";
    this.audio = socket;
    const current = () => attempt === this.attempt && this.audio === socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      if (current()) this.handlers.onSoundState(true);
    };
    socket.onmessage = ({ data }) => {
      if (current()) this.handlers.onSound(typeof data === "string" ? JSON.parse(data) : data);
    };
    socket.onclose = ({ code }) => {
      if (!current()) return;
      this.dropSound();
      if (code === REFUSED) return; // the session is gone, as its own socket will tell
      const tries = opened ? 0 : failures + 1;
      this.soundTimer = setTimeout(() => this.listen(key, attempt, tries), backoff(tries));
    };
  }

  dropSound() {
    if (!this.audio) return;
    const socket = this.audio;
    this.audio = null;
    socket.close();
    this.handlers.onSoundState(false);
  }
}

/** Milliseconds until the next try: twice as long after each failure, up to 15 s, never in step. */
export function backoff(failures, random = Math.random) {
  return Math.min(15000, 500 * 2 ** Math.max(0, failures - 1)) * (0.75 + random() / 2);
}

/** `crypto.randomUUID` is missing where the page is no secure context. */
function newIdentity() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

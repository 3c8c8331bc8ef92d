// Brings the parts together: who is told what.

import { serverAddress, tokenOf } from "./address.js";
import { loudness, prepareCapture } from "./capture.js";
import { Connection } from "./connection.js";
import { Conversation, heardText, saidText } from "./conversation.js";
import { Dialogs } from "./dialogs.js";
import { plain } from "./markdown.js";
import { Player } from "./playback.js";
import { LANGUAGES, handshake, load, needsHandshake, save, storageKey, storageOf } from "./settings.js";
import { Talk } from "./talk.js";
import { View } from "./view.js";
import { MICROPHONE, SLOW, TIME_LIMIT, stateNotice, stateWords } from "./words.js";

const KEPT = "whisperfusion-conversation-2";
const RETRIABLE = ["loading", "lost", "full", "refused"];

class App {
  constructor() {
    this.address = serverAddress(location.href);
    this.key = storageKey(this.address.host);
    this.storage = storageOf(window, "localStorage");
    this.tab = storageOf(window, "sessionStorage");
    this.settings = load(this.storage, this.key);
    this.view = new View();
    this.conversation = new Conversation((entry) => this.changed(entry), this.restored());
    this.connection = new Connection(
      this.address,
      () => handshake(this.settings, this.conversation.history()),
      this,
    );
    this.context = null;
    this.player = null; // until the first press of a button
    this.opening = null;
    this.pending = []; // typed before the connection was ready
    this.announced = ""; // of how things stand
    this.talk = new Talk(this);
    this.dialogs = new Dialogs(this);
  }

  start() {
    const token = tokenOf(location.href);
    if (token) {
      this.change({ ...this.settings, token });
      history.replaceState(null, "", location.pathname + location.search);
    }
    this.view.language(this.settings.language);
    this.view.conversation(this.conversation.entries);
    this.listen();
    if (!navigator.mediaDevices?.getUserMedia) this.tellMicrophone("insecure");
    this.connection.check();
    setInterval(() => this.showState(), 1000); // "Next try in 3 s"
  }

  listen() {
    const on = (id, event, handler) => document.getElementById(id).addEventListener(event, handler);
    on("retry", "click", () => this.connection.retry());
    on("dismiss", "click", () => this.view.notice(null));
    on("stop", "click", () => this.hush());
    on("typing", "submit", (event) => {
      event.preventDefault();
      this.say(document.getElementById("typed"));
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) this.hush();
    });
    // Phones stop a page's sound for a call; the next touch brings it back.
    document.addEventListener("pointerdown", () => this.context?.resume());
  }

  // -- sound -----------------------------------------------------------------------------------

  /** Whether there can be sound: where the page is no secure context there is none, only text. */
  get hasSound() {
    return "audioWorklet" in AudioContext.prototype;
  }

  /**
   * Make the audio graph. Called from a press of a button: browsers allow sound only then. Returns
   * whether there is one: its worklets may not be had while the server is away; the next press
   * tries again.
   */
  async openSound() {
    // At the device's own rate: Firefox cannot bring a microphone into a graph of another one.
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.context.resume();
    if (!this.player) {
      this.opening ??= this.openPlayer().finally(() => (this.opening = null));
      await this.opening;
    }
    return this.player !== null;
  }

  async openPlayer() {
    const player = new Player(this.context, (event) => this.conversation.sounded(event));
    try {
      await Promise.all([player.open(this.settings.volume), prepareCapture(this.context)]);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.context.close(); // it remembers what it could not load
      this.context = null;
      return;
    }
    this.player = player;
    this.animate();
    if (this.connection.connected) this.hearReplies();
  }

  /** Let the replies be played, where both sides have sound. */
  hearReplies() {
    const sound = this.player !== null && Boolean(this.connection.state.server.audio_key);
    this.conversation.soundChanged(sound); // it is on its way
    if (sound) this.connection.openSound();
    else this.sayPending();
  }

  /** Show how loud the reply is, as long as the page lives. */
  animate() {
    const samples = new Float32Array(this.player.analyser.fftSize);
    const draw = () => {
      this.player.analyser.getFloatTimeDomainData(samples);
      this.view.voice(this.player.audible === null ? null : loudness(samples));
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  /** The person wants silence, or no answer at all. */
  hush() {
    this.player?.stop();
    this.connection.command("interrupt");
  }

  // -- what the person does ----------------------------------------------------------------------

  async say(field) {
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    if (this.hasSound) await this.openSound();
    this.player?.stop();
    this.view.follow();
    if (this.connection.command("say", { text })) return;
    this.pending.push(text);
    this.view.waiting(this.pending);
    this.connection.open();
  }

  change(settings) {
    const before = this.settings;
    const renew = needsHandshake(before, settings);
    this.settings = settings;
    save(this.storage, this.key, settings);
    this.view.language(settings.language);
    if (this.player) this.player.volume = settings.volume;
    if (settings.hold !== before.hold) this.talk.changed();
    if (renew) this.connection.renew();
  }

  tellMicrophone(kind) {
    const secureAddress =
      kind === "insecure" ? location.href.replace(/^http:/, "https:").replace(/#.*/, "") : null;
    this.view.notice(MICROPHONE[kind], { about: "microphone", tone: "bad", secureAddress });
  }

  tellSlow() {
    this.view.notice(SLOW, { tone: "bad" });
  }

  // -- what the connection says --------------------------------------------------------------------

  onState(state) {
    this.showState();
    const notice = stateNotice(state);
    if (notice) this.view.notice(notice, { about: "connection", tone: "bad" });
    const { text } = stateWords(state, this.talk.listening, Date.now());
    if (state.name === "ready") this.ready(state.server);
    else if (text !== this.announced) this.view.announce(text);
    this.announced = text;
  }

  ready(server) {
    this.view.resolved("connection");
    this.talk.connected(server);
    this.dialogs.offerLanguages(server.languages ?? LANGUAGES);
    this.hearReplies();
  }

  /** What was typed early waits until its answer can be played. */
  sayPending() {
    if (!this.connection.connected) return;
    for (const text of this.pending.splice(0)) this.connection.command("say", { text });
    this.view.waiting(this.pending);
  }

  onTimeLimit() {
    const going = this.talk.microphone !== "off";
    if (!going) this.connection.close();
    this.view.notice(going ? TIME_LIMIT.going : TIME_LIMIT.over);
  }

  onMessage(message) {
    const { turn } = message;
    if (message.segments) {
      const timeOf = (seconds) => this.talk.clock.timeOf(seconds);
      const entry = this.conversation.transcribed(message, timeOf, Date.now(), this.settings.reply);
      if (entry && message.eos) this.view.announce(`You: ${saidText(entry)}`);
    } else if (message.llm_output) {
      const entry = this.conversation.answered(message);
      if (message.eos && entry.reply.silent) this.view.announce(plain(heardText(entry)));
    } else if (message.event === "thinking") {
      this.conversation.thinks(message);
    } else if (message.event === "interrupted") {
      this.conversation.interrupted(message);
    } else if (message.event === "timeline") {
      this.conversation.timed(message);
    } else if (message.status === "ERROR") {
      if (turn === undefined) this.view.notice(message.message, { tone: "bad" });
      else this.conversation.failed(turn, message.message);
    }
  }

  onSoundState(open) {
    if (!open) this.player?.flush();
    this.conversation.soundChanged(open);
    this.sayPending();
  }

  onSound(message) {
    if (message instanceof ArrayBuffer) this.player.sound(message);
    else if (message.event === "reply_start") this.player.begin(message.turn);
    else if (message.event === "clause") this.player.clause(message.turn, message.text);
    else if (message.event === "reply_end") this.player.end(message.turn);
    else if (message.event === "flush") this.player.flush();
    else if (message.event === "left_out") this.conversation.leftOut(message.turn, message.message);
    else if (message.status === "ERROR") this.conversation.unspoken(message.turn, message.message);
    else if (message.event === "voices") this.dialogs.offerVoices(message.voices);
  }

  onDropped() {
    this.player?.reset();
    this.conversation.connectionEnded();
  }

  // -- what the page shows -------------------------------------------------------------------------

  showState() {
    const { state } = this.connection;
    this.view.microphone(this.talk.microphone, this.settings.hold, state.name === "ready");
    const words = stateWords(state, this.talk.listening, Date.now());
    const where = this.address.host === null ? "" : ` · ${this.address.host}`;
    this.view.state({ ...words, text: words.text + where }, RETRIABLE.includes(state.name));
  }

  changed(entry) {
    if (entry) this.view.entry(entry);
    else this.view.conversation(this.conversation.entries);
    this.tab.setItem(KEPT, JSON.stringify(this.conversation.entries));
  }

  /** The conversation of this tab, if the page was loaded again. */
  restored() {
    const kept = this.tab.getItem(KEPT);
    return kept ? JSON.parse(kept) : [];
  }
}

export const app = new App();
app.start();

// Brings the parts together: who is told what.

import { serverAddress, tokenOf } from "./address.js";
import { Connection } from "./connection.js";
import { Conversation, heardText, saidText } from "./conversation.js";
import { Dialogs } from "./dialogs.js";
import { Player } from "./playback.js";
import { handshake, load, needsHandshake, save, storageKey } from "./settings.js";
import { Talk } from "./talk.js";
import { View } from "./view.js";
import { MICROPHONE, SLOW, TIME_LIMIT, stateNotice, stateWords } from "./words.js";
import { loudness } from "./capture.js";

const KEPT = "whisperfusion-conversation";
const RETRIABLE = ["loading", "lost", "full", "refused"];

class App {
  constructor() {
    this.address = serverAddress(location.href);
    this.key = storageKey(this.address.host);
    this.settings = load(localStorage, this.key);
    this.view = new View();
    this.conversation = new Conversation((entry) => this.changed(entry), restored());
    this.connection = new Connection(
      this.address,
      () => handshake(this.settings, this.conversation.history()),
      this,
    );
    this.context = null;
    this.player = null;
    this.pending = []; // typed before the connection was ready
    this.talk = new Talk(this);
    this.dialogs = new Dialogs(this);
  }

  start() {
    const token = tokenOf(location.href);
    if (token) {
      this.change({ ...this.settings, token });
      history.replaceState(null, "", location.pathname + location.search);
    }
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

  /** The audio graph. Called from a press of a button: browsers allow sound only then. */
  async openSound() {
    if (!this.context) {
      // At the device's own rate: Firefox cannot bring a microphone into a graph of another one.
      this.context = new AudioContext({ latencyHint: "interactive" });
      const player = new Player(this.context, (heard) => this.conversation.sounded(heard));
      this.opening = player.open(this.settings.volume).then(() => {
        this.player = player;
        this.animate();
      });
    }
    this.context.resume();
    await this.opening;
    return this.context;
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

  /** The person wants silence. */
  hush() {
    if (!this.player || this.player.turn === null) return;
    this.player.stop();
    this.connection.command("interrupt");
  }

  // -- what the person does ----------------------------------------------------------------------

  async say(field) {
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    if (this.hasSound) await this.openSound();
    this.player?.stop();
    if (this.connection.command("say", { text })) return;
    this.pending.push(text);
    this.connection.open();
  }

  change(settings) {
    const renew = needsHandshake(this.settings, settings);
    this.settings = settings;
    save(localStorage, this.key, settings);
    if (this.player) this.player.volume = settings.volume;
    this.talk.changed();
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
    if (state.name === "ready") this.ready(state.server);
    else this.view.announce(stateWords(state, this.talk.microphone, Date.now()).text);
  }

  ready(server) {
    this.view.settled("connection");
    this.talk.connected();
    this.dialogs.offerVoices(server.voices ?? []);
    const sound = this.hasSound && Boolean(server.audio_key);
    this.conversation.soundChanged(sound); // it is on its way
    if (sound) this.connection.openSound();
    else this.sayPending();
  }

  /** What was typed early waits until its answer can be heard. */
  sayPending() {
    if (!this.connection.connected) return;
    for (const text of this.pending.splice(0)) this.connection.command("say", { text });
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
      const entry = this.conversation.heard(message, timeOf, Date.now(), this.settings.reply);
      if (entry && message.eos) this.view.announce(`You: ${saidText(entry)}`);
    } else if (message.llm_output) {
      const entry = this.conversation.answered(message);
      if (message.eos && entry.reply.silent) this.view.announce(heardText(entry));
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
    else if (message.status === "ERROR") this.conversation.unspoken(message.turn, message.message);
  }

  onDropped() {
    this.player?.reset();
    this.conversation.connectionEnded();
  }

  // -- what the page shows -------------------------------------------------------------------------

  showState() {
    const { state } = this.connection;
    this.view.microphone(this.talk.microphone, this.settings.hold, state.name === "ready");
    const words = stateWords(state, this.talk.microphone, Date.now());
    const where = this.address.host === null ? "" : ` · ${this.address.host}`;
    this.view.state({ ...words, text: words.text + where }, RETRIABLE.includes(state.name));
  }

  changed(entry) {
    if (entry) this.view.entry(entry);
    else this.view.conversation(this.conversation.entries);
    sessionStorage.setItem(KEPT, JSON.stringify(this.conversation.entries));
  }
}

/** The conversation of this tab, if the page was loaded again. */
function restored() {
  const kept = sessionStorage.getItem(KEPT);
  return kept ? JSON.parse(kept) : [];
}

export const app = new App();
app.start();

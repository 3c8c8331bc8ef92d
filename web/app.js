// Brings the parts together: who is told what.

import { serverAddress, tokenOf } from "./address.js";
import { loudness, prepareCapture } from "./capture.js";
import { Connection } from "./connection.js";
import { Conversation, awaited, heardText, saidText } from "./conversation.js";
import { Dialogs, copyText } from "./dialogs.js";
import { Elsewhere } from "./elsewhere.js";
import { History } from "./history.js";
import { Kept } from "./kept.js";
import { plain } from "./markdown.js";
import { Media } from "./media.js";
import { Player } from "./playback.js";
import { sample } from "./preview.js";
import { LANGUAGES, handshake, languageOf, load, needsHandshake, save, storageKey, storageOf } from "./settings.js";
import { Talk } from "./talk.js";
import { DocumentWords, interfaceOf, languageName, t, useLanguage } from "./texts.js";
import { Tools, ringTone } from "./tools.js";
import { View } from "./view.js";
import { MICROPHONE, SLOW, TIME_LIMIT, heldWords, mindWords, stateNotice, stateWords, unvoicedWords } from "./words.js";
const SAMPLE = 0; // the "turn" of a voice's sample: those of a conversation count from 1
const RETRIABLE = ["loading", "lost", "full", "refused"];

class App {
  constructor() {
    this.address = serverAddress(location.href);
    this.key = storageKey(this.address.host);
    this.storage = storageOf(window, "localStorage");
    this.tab = storageOf(window, "sessionStorage");
    this.settings = load(this.storage, this.key, languageOf(navigator.languages));
    this.view = new View();
    this.view.canReplay = (entry) =>
      entry.connection === this.conversation.connection && Boolean(this.player?.canReplay(entry.turn));
    this.kept = new Kept(this.storage, this.tab, this.key, () => this.history.refresh());
    this.conversation = new Conversation((entry) => this.changed(entry), this.kept.restored());
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
    this.tools = new Tools({ ring: (text) => this.ring(text), hangUp: () => this.hangUp() });
    this.words = new DocumentWords(document);
    this.dialogs = new Dialogs(this);
    this.history = new History(this, this.kept);
    this.elsewhere = new Elsewhere(() => this.settings.token);
    this.media = new Media({
      play: () => this.talk.open("on"),
      pause: () => this.hush(),
      stop: () => this.hush(),
      togglemicrophone: () => this.talk.mute(!this.talk.muted),
      hangup: () => this.talk.close(),
    });
  }

  /** Speak the language that was chosen for the page. */
  async translate() {
    await useLanguage(this.settings.interface || interfaceOf(navigator.languages));
    this.words.translate();
    this.dialogs.translate();
    this.view.conversation(this.conversation.entries);
    this.showState();
  }

  async start() {
    await this.translate();
    const token = tokenOf(location.href);
    if (token) {
      this.change({ ...this.settings, token });
      history.replaceState(null, "", location.pathname + location.search);
    }
    this.view.language(this.settings.language);
    this.listen();
    if (!navigator.mediaDevices?.getUserMedia) this.tellMicrophone("insecure");
    this.connection.check();
    setInterval(() => this.showState(), 1000); // "Next try in 3 s"
  }

  listen() {
    const on = (id, event, handler) => document.getElementById(id).addEventListener(event, handler);
    on("retry", "click", () => this.connection.retry());
    on("dismiss", "click", () => this.view.notice(null));
    on("new", "click", () => this.begin());
    on("starters", "click", ({ target }) => {
      if (target.matches("button")) this.sayText(target.textContent);
    });
    on("conversation", "click", ({ target }) => this.use(target));
    on("notice-token", "submit", (event) => {
      event.preventDefault();
      const token = document.getElementById("right-token").value.trim();
      if (token) this.change({ ...this.settings, token });
    });
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
    const player = new Player(this.context, (event) => this.sounded(event));
    try {
      await Promise.all([player.open(this.settings.volume), prepareCapture(this.context)]);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.context.close(); // it remembers what it could not load
      this.context = null;
      return;
    }
    this.player = player;
    if (this.settings.loudspeaker) player.playOn(this.settings.loudspeaker);
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
    field.value = "";
    if (text) await this.sayText(text);
  }

  async sayText(text) {
    if (this.hasSound) await this.openSound();
    this.player?.stop();
    this.view.follow();
    if (this.connection.command("say", { text })) return;
    this.pending.push(text);
    this.view.waiting(this.pending);
    this.connection.open();
  }

  /** A new conversation; the one before can be had back. */
  begin() {
    const before = { name: this.kept.name, entries: this.conversation.entries };
    this.clear();
    const undo = { label: t("Undo"), run: () => this.takeUp(before) };
    this.view.notice(t("A new conversation has begun."), { action: undo });
  }

  clear() {
    this.hush();
    this.kept.begin();
    this.conversation.clear();
    this.connection.renew(); // the server forgets it as well
  }

  /** Go on with an earlier conversation: see kept.js. */
  takeUp({ name, entries }) {
    this.hush();
    this.kept.takeUp(name, entries);
    this.conversation.restore(entries);
    this.connection.renew();
    this.view.follow();
  }

  // -- voices ------------------------------------------------------------------------------------

  /** Learn which voices there are, before the first word. Called from a press of a button. */
  meetVoices() {
    if (!this.hasSound || !this.settings.reply) return;
    this.openSound();
    this.connection.open();
  }

  /** Play a sample of a voice; returns whether there was one. */
  async playSample(voice, language) {
    if (!this.connection.connected || !this.hasSound || !(await this.openSound())) return false;
    const key = this.connection.audioKey;
    const protocols = this.connection.protocols();
    const sound = await sample(this.address.audio, { key, protocols, voice, language });
    this.hush();
    if (sound.length > 0) this.player.playAside(SAMPLE, sound);
    return sound.length > 0;
  }

  /** A button of a turn was pressed. */
  async use(button) {
    const { act } = button.dataset;
    const { entry: id } = button.closest("[data-entry]")?.dataset ?? {};
    const entry = this.conversation.entries.find((one) => one.id === id);
    if (act === "all") this.conversation.toggleAll(id);
    if (act === "again") {
      this.hush();
      this.player.replay(entry.turn);
    }
    if (act !== "copy" || !entry) return;
    const text = plain(entry.reply.all ? entry.reply.written : heardText(entry));
    const copied = await copyText(text);
    this.view.notice(t(copied ? "Copied." : "This browser does not let the page copy."));
  }

  change(settings) {
    const before = this.settings;
    const renew = needsHandshake(before, settings);
    this.settings = settings;
    save(this.storage, this.key, settings);
    this.view.language(settings.language);
    if (this.player) this.player.volume = settings.volume;
    if (settings.loudspeaker !== before.loudspeaker) this.player?.playOn(settings.loudspeaker);
    if (settings.microphone !== before.microphone) this.talk.changed();
    if (settings.hold !== before.hold) this.talk.changed();
    if (settings.interface !== before.interface) this.translate();
    if (before.remember && !settings.remember) this.kept.remove(this.kept.name);
    if (renew) this.connection.renew();
  }

  async tellMicrophone(kind) {
    const tell = (more) => this.view.notice(t(MICROPHONE[kind]), { about: "microphone", tone: "bad", ...more });
    tell({});
    if (kind !== "insecure") return;
    const secureAddress = location.href.replace(/^http:/, "https:").replace(/#.*/, "");
    if ((await answers(secureAddress)) && this.view.about === "microphone") tell({ secureAddress });
  }

  tellSlow() {
    this.view.notice(t(SLOW), { tone: "bad" });
  }

  // -- what the connection says --------------------------------------------------------------------

  onState(state) {
    this.showState();
    const notice = stateNotice(state);
    if (state.name === "refused" && this.metInEnglish(state.reason)) return;
    const token = state.name === "refused" && /token/i.test(state.reason);
    if (notice) this.view.notice(notice, { about: "connection", tone: "bad", token });
    const { text } = stateWords(state, this.talk.listening ? "listening" : "", Date.now());
    if (state.name === "ready") this.ready(state.server);
    else if (text !== this.announced) this.view.announce(text);
    this.announced = text;
  }

  /** The browser's language was our guess: where the server does not know it, English will do. */
  metInEnglish(reason) {
    const guessed = this.storage.getItem(this.key) === null && this.settings.language !== "en";
    if (!guessed || !/language/i.test(reason)) return false;
    this.change({ ...this.settings, language: "en" });
    return true;
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
    this.view.notice(t(going ? TIME_LIMIT.going : TIME_LIMIT.over));
  }

  onMessage(message) {
    const { turn } = message;
    if (message.segments) {
      const timeOf = (seconds) => this.talk.clock.timeOf(seconds);
      const entry = this.conversation.transcribed(message, timeOf, Date.now(), this.settings.reply);
      if (entry && message.eos) this.view.announce(`${t("You")}: ${saidText(entry)}`);
    } else if (message.llm_output) {
      const entry = this.conversation.answered(message);
      if (message.eos && entry.reply.silent) this.view.announce(plain(heardText(entry)));
    } else if (message.event === "thinking") {
      this.conversation.thinks(message);
    } else if (message.event === "language_model") {
      this.view.mind(mindWords(message), message.detail);
    } else if (message.event === "held") {
      this.view.hint(heldWords(message));
    } else if (message.event === "interrupted") {
      this.conversation.interrupted(message);
    } else if (message.event === "timeline") {
      this.conversation.timed(message);
      if (message.milliseconds.first_sound === null) this.tools.replied(turn);
    } else if (message.event === "tool_call") {
      if (!message.by_server) this.connection.command("tool_result", this.tools.result(message));
    } else if (message.event === "tool_ended") {
      if (message.failed) this.view.notice(t("A tool failed: {reason}", { reason: message.message }));
    } else if (message.status === "ERROR") {
      if (turn === undefined) this.view.notice(t(message.message), { tone: "bad" });
      else this.conversation.failed(turn, message.message);
    }
  }

  sounded(event) {
    this.conversation.sounded(event);
    if (event.kind === "end") this.tools.replied(event.turn);
    if (event.kind === "cut") this.tools.reset(); // they went on talking
  }

  ring(text) {
    ringTone(this.context, this.settings.volume);
    this.view.notice(text);
    this.view.announce(text);
  }

  /** The language model ends the conversation, after its last words. */
  hangUp() {
    this.talk.close();
    this.connection.close();
    this.view.notice(t("The conversation has ended."));
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
    else if (message.event === "voices") this.voicesKnown(message);
  }

  /** Before the first word the person learns that there will be none to hear. */
  voicesKnown(message) {
    this.dialogs.offerVoices(message);
    const { language, reply } = this.settings;
    if (!reply || !this.dialogs.isUnvoiced(language)) this.view.resolved("voice");
    else {
      this.view.notice(unvoicedWords(languageName(language)), { about: "voice" });
    }
  }

  onDropped(forgotten) {
    const question = forgotten ? this.conversation.takeUnanswered() : "";
    if (question) this.pending.unshift(question); // asked again once the new session is ready
    this.player?.reset();
    this.tools.reset();
    this.conversation.connectionEnded();
  }

  // -- what the page shows -------------------------------------------------------------------------

  showState() {
    const { state } = this.connection;
    const { microphone, muted, canMute } = this.talk;
    const { hold } = this.settings;
    this.view.microphone({ microphone, hold, ready: state.name === "ready", muted, canMute });
    const words = stateWords(state, this.doing, Date.now());
    const where = this.address.host === null ? "" : ` · ${this.address.host}`;
    this.view.state({ ...words, text: words.text + where }, RETRIABLE.includes(state.name));
    this.media.show({
      question: this.conversation.entries.map(saidText).findLast(Boolean) ?? "",
      speaking: this.player?.audible != null,
      open: this.talk.device !== null,
      muted,
    });
  }

  get doing() {
    if (this.player?.audible != null) return "speaking";
    if (this.conversation.entries.slice(-1).some(awaited)) return "thinking";
    if (this.talk.muted) return "muted";
    return this.talk.listening ? "listening" : "";
  }

  changed(entry) {
    if (entry) this.view.entry(entry);
    else this.view.conversation(this.conversation.entries);
    this.kept.changed(this.conversation.entries, this.settings.remember);
    this.showState();
  }
}

/** Whether a page is served there: only with TLS that this browser trusts. */
async function answers(address) {
  try {
    await fetch(address, { method: "HEAD", mode: "no-cors", signal: AbortSignal.timeout(3000) });
    return true;
  } catch (error) {
    if (error instanceof TypeError || error instanceof DOMException) return false;
    throw error;
  }
}

export const app = new App();
app.start();

// The conversation of this tab, and those of all tabs in this browser: kept, found, deleted.
//
// A tab's conversation has a name of its own. A tab that is loaded again, or takes up an earlier
// conversation, keeps it under a new name, so two tabs never write the same one.

const TAB = "whisperfusion-conversation-2";
const NAME = "whisperfusion-conversation-name";
const MOST = 300;
const DELAY = 1000; // ms between a change and its writing; replies grow word by word

export class Kept {
  /** `local`, `tab`: Storages; `key`: see storageKey in settings.js; `onChange()`: another tab wrote. */
  constructor(local, tab, key, onChange = () => {}) {
    this.local = local;
    this.tab = tab;
    this.prefix = `${key}-conversation:`;
    this.name = newName();
    this.timer = null;
    this.entries = [];
    this.changedAt = 0;
    this.text = null; // of what the tab keeps
    globalThis.addEventListener?.("storage", (event) => {
      if (event.key === null || event.key.startsWith(this.prefix)) onChange();
    });
    for (const event of ["pagehide", "blur"]) globalThis.addEventListener?.(event, () => this.write());
  }

  /** What was said in this tab before it was loaded again. */
  restored() {
    this.text = this.tab.getItem(TAB);
    const entries = parsed(this.text);
    const before = this.tab.getItem(NAME);
    this.tab.setItem(NAME, this.name);
    if (!isConversation(entries)) return [];
    if (before && this.local.getItem(this.prefix + before) !== null) this.move(before, entries);
    return entries;
  }

  /** The conversation of this tab has changed; `remember`: whether the browser is to keep it. */
  changed(entries, remember) {
    const text = JSON.stringify(entries);
    if (text === this.text) return;
    this.tab.setItem(TAB, (this.text = text));
    this.entries = remember ? entries : [];
    this.changedAt = Date.now();
    if (this.entries.length === 0) this.stop();
    else this.timer ??= setTimeout(() => this.write(), DELAY);
  }

  /** What comes next is another conversation. */
  begin() {
    this.write();
    this.rename();
  }

  /** Go on with an earlier one. */
  takeUp(name, entries) {
    this.begin();
    this.move(name, entries);
  }

  move(name, entries) {
    const before = parsed(this.local.getItem(this.prefix + name));
    this.local.removeItem(this.prefix + name);
    this.put({ name: this.name, updated: before?.updated ?? Date.now(), entries });
  }

  rename() {
    this.name = newName();
    this.entries = [];
    this.tab.setItem(NAME, this.name);
  }

  /** Write what is still to be written. */
  write() {
    if (this.timer === null) return;
    this.stop();
    const { name, changedAt: updated, entries } = this;
    if (entries.length > 0) this.put({ name, updated, entries });
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  /** Keep one; where there is no room, the oldest give way. */
  put(one) {
    const names = this.all().map(({ name }) => name);
    for (const name of names.slice(MOST - 1)) this.remove(name);
    const text = JSON.stringify(one);
    for (const oldest of [...names.slice(0, MOST - 1).reverse(), null]) {
      try {
        this.local.setItem(this.prefix + one.name, text);
        return;
      } catch (error) {
        if (!(error instanceof DOMException)) throw error;
        if (oldest !== null) this.remove(oldest);
      }
    }
  }

  remove(name) {
    if (name === this.name) this.stop();
    this.local.removeItem(this.prefix + name);
  }

  /** All of them, the latest first: {name, updated, entries}. */
  all() {
    const keys = Array.from({ length: this.local.length }, (_, index) => this.local.key(index));
    return keys
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => parsed(this.local.getItem(key)))
      .filter((one) => typeof one?.name === "string" && isConversation(one.entries))
      .sort((a, b) => b.updated - a.updated);
  }
}

/** Those in which these words were said, written in whatever case and with or without accents. */
export function search(conversations, words, textOf) {
  const wanted = simple(words).split(/\s+/).filter(Boolean);
  return conversations.filter((one) => {
    const text = simple(textOf(one));
    return wanted.every((word) => text.includes(word));
  });
}

function simple(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

function isConversation(entries) {
  return (
    Array.isArray(entries) && entries.every((entry) => Array.isArray(entry?.said?.segments))
  );
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(9));
  return Array.from(bytes, (byte) => byte.toString(36)).join("");
}

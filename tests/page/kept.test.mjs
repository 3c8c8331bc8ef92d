// Conversations of all tabs, with storages that the tests hold in their hands.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { Kept, search } from "../../web/kept.js";

class Store {
  constructor(room = Infinity) {
    this.map = new Map();
    this.room = room;
  }
  get length() {
    return this.map.size;
  }
  key(index) {
    return [...this.map.keys()][index];
  }
  getItem(key) {
    return this.map.get(key) ?? null;
  }
  setItem(key, value) {
    if (this.map.size >= this.room && !this.map.has(key)) throw new DOMException("full", "QuotaExceededError");
    this.map.set(key, value);
  }
  removeItem(key) {
    this.map.delete(key);
  }
}

const said = (...texts) => texts.map((text) => ({ said: { segments: [{ text }] } }));
const textOf = ({ entries }) => entries.map((entry) => entry.said.segments[0].text).join("\n");
const all = (kept) => kept.all().map(textOf);

let local;
beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1000 });
  local = new Store();
});

test("a conversation is kept a moment after it changed, under one name", () => {
  const kept = new Kept(local, new Store(), "w");
  kept.changed(said("Hello."), true);
  assert.deepEqual(all(kept), []);
  mock.timers.tick(1000);
  kept.changed(said("Hello.", "Again."), true);
  mock.timers.tick(1000);
  assert.deepEqual(all(kept), ["Hello.\nAgain."]);
});

test("a tab that is loaded again goes on with its own, and keeps it once", () => {
  const tab = new Store();
  const before = new Kept(local, tab, "w");
  before.restored();
  before.changed(said("Hello."), true);
  before.write();
  const after = new Kept(local, tab, "w");
  assert.deepEqual(after.restored(), said("Hello."));
  after.changed(said("Hello.", "More."), true);
  after.write();
  assert.deepEqual(all(after), ["Hello.\nMore."]);
});

test("a copy of a tab loses nothing of either", () => {
  const tab = new Store();
  const first = new Kept(local, tab, "w");
  assert.deepEqual(first.restored(), []);
  first.changed(said("Hello."), true);
  first.write();
  const copied = new Store();
  copied.map = new Map(tab.map);
  const second = new Kept(local, copied, "w");
  second.restored();
  second.changed(said("Hello.", "In the second."), true);
  second.write();
  first.changed(said("Hello.", "In the first."), true);
  first.write();
  assert.deepEqual(all(second).sort(), ["Hello.\nIn the first.", "Hello.\nIn the second."]);
});

test("what was deleted does not come back when its tab is loaded again", () => {
  const tab = new Store();
  const before = new Kept(local, tab, "w");
  before.restored();
  before.changed(said("Hello."), true);
  before.write();
  before.remove(before.name);
  const after = new Kept(local, tab, "w");
  after.changed(after.restored(), true);
  mock.timers.tick(2000);
  assert.deepEqual(all(after), []);
});

test("a new conversation leaves the one before as it is, and taking it up moves it", () => {
  const kept = new Kept(local, new Store(), "w");
  kept.changed(said("First."), true);
  const { name } = kept;
  kept.begin();
  kept.changed(said("Second."), true);
  kept.write();
  assert.deepEqual(all(kept).sort(), ["First.", "Second."]);
  kept.takeUp(name, said("First."));
  kept.changed(said("First.", "More."), true);
  kept.write();
  assert.deepEqual(all(kept).sort(), ["First.\nMore.", "Second."]);
});

test("nothing is kept where the person does not want it, but the tab's own", () => {
  const tab = new Store();
  const kept = new Kept(local, tab, "w");
  kept.changed(said("Hello."), false);
  mock.timers.tick(2000);
  assert.deepEqual(all(kept), []);
  assert.deepEqual(new Kept(local, tab, "w").restored(), said("Hello."));
});

test("where there is no room the oldest gives way; other servers' are left alone", () => {
  local = new Store(3);
  local.setItem("w@elsewhere-conversation:x", "{}");
  for (const text of ["One.", "Two.", "Three."]) {
    const kept = new Kept(local, new Store(), "w");
    kept.changed(said(text), true);
    mock.timers.tick(2000);
  }
  assert.deepEqual(all(new Kept(local, new Store(), "w")), ["Three.", "Two."]);
  assert.equal(local.getItem("w@elsewhere-conversation:x"), "{}");
});

test("what is no conversation is passed over", () => {
  local.setItem("w-conversation:a", "nonsense");
  local.setItem("w-conversation:b", '{"name": "b", "updated": 1, "entries": [{}]}');
  assert.deepEqual(new Kept(local, new Store(), "w").all(), []);
});

test("all words are searched, in whatever case and without their accents", () => {
  const found = (words) => search([{ entries: said("Où est le café?") }, { entries: said("The bridge.") }], words, textOf);
  assert.equal(found("CAFE").length, 1);
  assert.equal(found("est café").length, 1);
  assert.equal(found("café bridge").length, 0);
  assert.equal(found(" ").length, 2);
});

// Every language of the page says all that the English page says, and nothing else.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { afterEach, test } from "node:test";

import { INTERFACE, interfaceOf, minutes, number, t, useLanguage } from "../../web/texts.js";
import * as words from "../../web/words.js";

const WEB = new URL("../../web/", import.meta.url);
const NAMES = ["WhisperFusion", "Esc"]; // the same in every language

const read = (name) => readFileSync(new URL(name, WEB), "utf8");
const strings = (value) => (typeof value === "string" ? [value] : Object.values(value).flatMap(strings));

/** All that the page says in English: in its document, in `t("…")`, and in the tables of words.js. */
function said() {
  const html = read("index.html").replace(/[^]*<body>/, "");
  const texts = [...html.matchAll(/>([^<>]+)</g)].map(([, text]) => text.trim().replace(/\s+/g, " "));
  const attributes = [...html.matchAll(/\s(?:aria-label|title|placeholder)="([^"]+)"/g)].map(([, text]) => text);
  const scripts = readdirSync(WEB).filter((name) => name.endsWith(".js"));
  const calls = scripts.flatMap((name) => [
    ...read(name).matchAll(/\bt\((?:\w+ \? )?"((?:[^"\\]|\\.)*)"(?: : "((?:[^"\\]|\\.)*)")?/g),
  ]);
  const { STAGES, ...tables } = words;
  const listed = strings(Object.values(tables).filter((value) => typeof value !== "function"));
  const all = [...texts, ...attributes, ...calls.flatMap(([, ...found]) => found), ...listed];
  const labels = STAGES.map(([, label]) => label);
  return [...new Set([...all, ...labels].filter((text) => text && !NAMES.includes(text)))].sort();
}

afterEach(() => useLanguage("en"));

for (const code of Object.keys(INTERFACE).filter((code) => code !== "en")) {
  test(`${INTERFACE[code]} has all words`, async () => {
    const { default: texts } = await import(new URL(`texts/${code}.js`, WEB));
    assert.deepEqual(Object.keys(texts).sort(), said());
    const gaps = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
    for (const [english, text] of Object.entries(texts)) {
      assert.deepEqual(gaps(text), gaps(english), english);
      assert.notEqual(text.trim(), "", english);
    }
  });
}

test("every file of a language is offered", () => {
  const files = readdirSync(new URL("texts/", WEB)).map((name) => name.replace(".js", ""));
  assert.deepEqual(["en", ...files].sort(), Object.keys(INTERFACE).sort());
});

test("words, numbers and times are those of the language", async () => {
  assert.equal(t("Next try in {seconds} s", { seconds: 3 }), "Next try in 3 s");
  assert.deepEqual([number(0.94, 1), minutes(1), minutes(2)], ["0.9", "1 minute", "2 minutes"]);
  await useLanguage("de");
  assert.equal(t("Listening"), "Hört zu");
  assert.deepEqual([number(0.94, 1), minutes(1), minutes(2)], ["0,9", "1 Minute", "2 Minuten"]);
  assert.equal(t("a sentence of the server's"), "a sentence of the server's");
  assert.equal(t("constructor"), "constructor");
});

test("the browser's first language that the page speaks is taken, else English", () => {
  assert.equal(interfaceOf(["pl-PL", "de-AT", "en"]), "de");
  assert.equal(interfaceOf(["zh-Hant-TW"]), "zh");
  assert.equal(interfaceOf(["pl"]), "en");
  assert.equal(interfaceOf([]), "en");
});

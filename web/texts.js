// The page's words in the person's language. English is written where it is shown; each other
// language has a file in texts/, from the English words to its own.

export const INTERFACE = Object.freeze({
  en: "English",
  zh: "中文",
  es: "Español",
  fr: "Français",
  pt: "Português",
  de: "Deutsch",
});

const ATTRIBUTES = ["aria-label", "title", "placeholder"];

let words = {};
let language = "en";

/** The first of the browser's languages that the page speaks. */
export function interfaceOf(tags) {
  const codes = tags.map((tag) => tag.toLowerCase().split("-")[0]);
  return codes.find((code) => code in INTERFACE) ?? "en";
}

/** Speak this language from now on. Where its file cannot be had, English. */
export async function useLanguage(code) {
  try {
    words = code === "en" ? {} : (await import(`./texts/${code}.js`)).default;
    language = code;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    words = {};
    language = "en";
  }
}

export function currentLanguage() {
  return language;
}

/** These English words in the page's language; {name} stands for the value of that name. */
export function t(english, values = {}) {
  const found = Object.hasOwn(words, english) ? words[english] : english;
  return found.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** As the page's language writes a number. */
export function number(value, digits = 0) {
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, format).format(value);
}

export function minutes(count) {
  const format = { style: "unit", unit: "minute", unitDisplay: "long" };
  return new Intl.NumberFormat(language, format).format(count);
}

/** The name of a language, by its code; the code itself where nobody knows one. */
export function languageName(code) {
  return new Intl.DisplayNames([language], { type: "language" }).of(code);
}

export function dateAndTime(time) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(time);
}

/** The words that stand in the document itself, to be said again in another language. */
export class DocumentWords {
  constructor(document) {
    this.document = document;
    this.places = [...textPlaces(document), ...attributePlaces(document)];
  }

  translate() {
    this.document.documentElement.lang = language;
    for (const { english, put } of this.places) put(t(english));
  }
}

function textPlaces(document) {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const places = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const english = node.data.trim().replace(/\s+/g, " ");
    if (!english) continue;
    const [before, after] = [/^\s/.test(node.data) ? " " : "", /\s$/.test(node.data) ? " " : ""];
    places.push({ english, put: (text) => (node.data = before + text + after) });
  }
  return places;
}

function attributePlaces(document) {
  return ATTRIBUTES.flatMap((name) =>
    [...document.querySelectorAll(`[${name}]`)].map((element) => ({
      english: element.getAttribute(name),
      put: (text) => element.setAttribute(name, text),
    })),
  );
}

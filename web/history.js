// The dialog with the conversations of all tabs: search, take up, delete.

import { saidText } from "./conversation.js";
import { search } from "./kept.js";
import { plain } from "./markdown.js";
import { dateAndTime, t } from "./texts.js";

const at = (id) => document.getElementById(id);

const ICON = "M6 7h12M10 7V5h4v2M8 7l1 12h6l1-12";

export class History {
  /** `app` takes up conversations; `kept`: see kept.js. */
  constructor(app, kept) {
    this.app = app;
    this.kept = kept;
    this.deleted = []; // what Undo brings back
    this.sure = false; // "Delete all" was pressed once
    at("open-history").addEventListener("click", () => this.open());
    at("close-history").addEventListener("click", () => at("history").close());
    at("search").addEventListener("input", () => this.show());
    at("found").addEventListener("click", ({ target }) => this.use(target.closest("button")));
    at("undelete").addEventListener("click", () => this.undelete());
    at("forget-all").addEventListener("click", () => this.deleteAll());
  }

  open() {
    this.kept.write();
    this.forget();
    at("search").value = "";
    this.show();
    at("history-state").textContent = this.summary();
    at("history").showModal();
  }

  /** Show what there is now, if the dialog is open. */
  refresh() {
    if (at("history").open) this.show();
  }

  get found() {
    return search(this.kept.all(), at("search").value, textOf);
  }

  summary() {
    if (this.found.length > 0) return "";
    if (at("search").value.trim()) return t("Nothing was found.");
    return this.app.settings.remember ? t("Nothing is kept yet.") : t("Conversations are not kept: see the settings.");
  }

  show() {
    const { found } = this;
    at("found").replaceChildren(...found.map((one) => this.item(one)));
    at("forget-all").hidden = found.length === 0 || Boolean(at("search").value.trim());
    if (this.deleted.length === 0) at("history-state").textContent = this.summary();
  }

  item(one) {
    const title = titleOf(one);
    const item = document.createElement("li");
    item.dataset.name = one.name;
    const open = document.createElement("button");
    open.type = "button";
    open.dataset.act = "open";
    if (one.name === this.kept.name) open.setAttribute("aria-current", "true");
    const words = document.createElement("span");
    words.dir = "auto";
    words.textContent = title;
    const when = document.createElement("span");
    when.className = "quiet";
    when.textContent = one.name === this.kept.name ? t("This one") : dateAndTime(one.updated);
    open.append(words, when);
    const away = document.createElement("button");
    away.type = "button";
    away.className = "icon";
    away.dataset.act = "delete";
    away.title = t("Delete");
    away.setAttribute("aria-label", t("Delete: {title}", { title }));
    away.append(icon(ICON));
    item.append(open, away);
    return item;
  }

  use(button) {
    if (!button) return;
    const { name } = button.closest("li").dataset;
    const one = this.kept.all().find((other) => other.name === name);
    if (!one) this.show(); // deleted in another tab
    else if (button.dataset.act === "delete") this.delete(one);
    else {
      at("history").close();
      if (name !== this.kept.name) this.app.takeUp(one);
    }
  }

  delete(one) {
    const items = [...at("found").children];
    const index = items.findIndex((item) => item.dataset.name === one.name);
    this.remove([one]);
    const next = at("found").children[Math.min(index, items.length - 2)];
    (next?.querySelector("[data-act=delete]") ?? at("undelete")).focus();
    this.tell(t("Deleted: {title}", { title: titleOf(one) }));
  }

  deleteAll() {
    if (!this.sure) {
      this.sure = true;
      at("forget-all").textContent = t("Delete all: are you sure?");
      return;
    }
    const all = this.kept.all();
    this.remove(all);
    at("undelete").focus();
    this.tell(t("All conversations were deleted."));
  }

  remove(conversations) {
    this.forget();
    this.deleted = conversations;
    at("undelete").hidden = false;
    for (const { name } of conversations) {
      const here = name === this.kept.name;
      this.kept.remove(name);
      if (here) this.app.clear();
    }
    this.show();
  }

  undelete() {
    for (const one of this.deleted) this.kept.put(one);
    this.forget();
    this.show();
    at("search").focus();
    at("undelete").hidden = true;
  }

  forget() {
    this.deleted = [];
    this.sure = false;
    at("forget-all").textContent = t("Delete all");
    at("undelete").hidden = true;
  }

  tell(text) {
    at("history-state").textContent = text;
  }
}

function titleOf({ entries }) {
  const first = entries.map(saidText).find(Boolean) ?? "";
  return first.length > 80 ? `${first.slice(0, 79)}…` : first || t("Without words");
}

function textOf({ entries }) {
  return entries.map((entry) => `${saidText(entry)} ${plain(entry.reply?.written || entry.reply?.text || "")}`).join("\n");
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

// The Markdown of replies, as far as it is seen: bold, italic, struck out, code, headings, lists,
// links. No I/O and no markup: what comes out is text with its looks.
//
// A reply comes clause by clause, and what one clause opens another may close.

const MARK = new RegExp(
  [
    "(?<heading>^[ \\t]*#{1,6}[ \\t]+)",
    "(?<rule>^[ \\t]*(?:[-*_][ \\t]*){3,}$)",
    "(?<item>^[ \\t]*[-*+][ \\t]+(?:\\[[ xX]\\][ \\t]+)?)",
    "(?<quote>^[ \\t]*>[ \\t]?)",
    "(?<fence>```+[^\\n`]*\\n?|~~~+[^\\n]*\\n?)",
    "(?<code>`+)",
    "(?<mark>\\*{1,3}|(?<![\\p{L}\\p{N}])_{1,3}|_{1,3}(?![\\p{L}\\p{N}])|~~)",
    "!?\\[(?<label>[^\\[\\]\\n]*)\\]\\([^()\\s]*(?:\\s\"[^\"]*\")?\\)",
    "\\\\(?<escaped>[\\\\`*_{}\\[\\]()#+.!|~>-])",
  ].join("|"),
  "gmu",
);
const LOOKS = { 1: ["em"], 2: ["strong"], 3: ["strong", "em"] };

/** For each of a reply's pieces its runs: [{text, looks: ["strong", "em", "del", "code"]}]. */
export function runs(pieces) {
  const open = new Set();
  return pieces.map((piece) => runsOf(piece, open));
}

/** The pieces without their marks. */
export function plainPieces(pieces) {
  return runs(pieces).map((piece) => piece.map(({ text }) => text).join(""));
}

/** The text without its marks. */
export function plain(text) {
  return plainPieces([text])[0];
}

function runsOf(piece, open) {
  const found = [];
  let heading = false;
  const add = (text) => {
    if (!text) return;
    const looks = [...open].filter((look) => look !== "block");
    if (open.has("block") && !looks.includes("code")) looks.push("code");
    if (heading && !looks.includes("strong")) looks.push("strong");
    const last = found.at(-1);
    if (last && last.looks.join() === looks.join()) last.text += text;
    else found.push({ text, looks });
  };
  let at = 0;
  for (const match of piece.matchAll(MARK)) {
    if (match.index < at) continue;
    const before = piece.slice(at, match.index);
    at = match.index + match[0].length;
    const line = before.lastIndexOf("\n");
    if (heading && line >= 0) {
      add(before.slice(0, line));
      heading = false;
      add(before.slice(line));
    } else add(before);
    if (!toggle(match, piece, open, add)) add(match[0]);
    heading ||= match.groups.heading !== undefined && !open.has("block");
  }
  const rest = piece.slice(at);
  const line = heading ? rest.indexOf("\n") : -1;
  if (line >= 0) {
    add(rest.slice(0, line));
    heading = false;
    add(rest.slice(line));
  } else add(rest);
  return found;
}

/** Whether a mark means something where it stands; if not it is text. */
function toggle({ 0: whole, index, groups }, piece, open, add) {
  if (groups.fence !== undefined) {
    flip(open, "block");
    return true;
  }
  if (open.has("block")) return false;
  if (groups.code !== undefined) {
    flip(open, "code");
    return true;
  }
  if (open.has("code")) return false;
  if (groups.mark !== undefined) return emphasize(groups.mark, index, piece, open);
  if (groups.label !== undefined) add(groups.label);
  else if (groups.escaped !== undefined) add(groups.escaped);
  else if (groups.item !== undefined) add("• ");
  return whole !== "";
}

/** A star between two numbers is no emphasis, nor is one with space on both sides. */
function emphasize(mark, index, piece, open) {
  const before = piece[index - 1] ?? "";
  const after = piece[index + mark.length] ?? "";
  const spaced = (before === "" || /\s/.test(before)) && (after === "" || /\s/.test(after));
  if (/\d/.test(before) && /\d/.test(after)) return false;
  const looks = mark === "~~" ? ["del"] : LOOKS[mark.length];
  const closes = looks.some((look) => open.has(look));
  if (spaced && !(closes && before === "")) return mark.length > 1;
  for (const look of looks) {
    if (closes) open.delete(look);
    else open.add(look);
  }
  return true;
}

function flip(open, look) {
  if (!open.delete(look)) open.add(look);
}

// The dialog with the page's address for another device, as a link and as a QR code.

import { copyText } from "./dialogs.js";
import { t } from "./texts.js";
import { generate } from "./vendor/lean-qr.js";
import { ELSEWHERE } from "./words.js";

const at = (id) => document.getElementById(id);
const QUIET = 4; // modules of white around a QR code, by its standard

export class Elsewhere {
  /** `token()`: the server's secret, "" if there is none. */
  constructor(token) {
    this.token = token;
    at("open-elsewhere").addEventListener("click", () => this.open());
    at("copy-address").addEventListener("click", () => this.copy());
  }

  async open() {
    const address = await addressElsewhere(new URL(location.href), this.token());
    const words = [address ? ELSEWHERE.open : ELSEWHERE.closed];
    if (address && this.token()) words.push(ELSEWHERE.secret);
    if (address?.startsWith("http:")) words.push(ELSEWHERE.insecure);
    at("elsewhere-text").textContent = words.map((sentence) => t(sentence)).join(" ");
    at("elsewhere-address").textContent = address ?? "";
    at("qr").hidden = at("copy-address").hidden = address === null;
    at("qr").replaceChildren(...(address ? [picture(generate(address))] : []));
    at("elsewhere-state").textContent = "";
    at("settings").close();
    at("elsewhere").showModal();
  }

  async copy() {
    const copied = await copyText(at("elsewhere-address").textContent);
    at("elsewhere-state").textContent = t(copied ? "Copied." : "This browser does not let the page copy.");
  }
}

/**
 * The page's address for another device, null where only this machine can reach it. What this
 * machine is called elsewhere is known to the server alone: see docs/protocol.md.
 */
async function addressElsewhere(page, token) {
  const url = isHere(page.hostname) ? await toldByServer(page) : page;
  if (url === null) return null;
  url.search = page.search;
  url.hash = token ? new URLSearchParams({ token }).toString() : "";
  return url.href;
}

async function toldByServer(page) {
  try {
    const response = await fetch(new URL("addresses", page), { signal: AbortSignal.timeout(3000) });
    const [first] = response.ok ? (await response.json()).addresses : [];
    return first ? new URL(first) : null;
  } catch (error) {
    if (error instanceof TypeError || error instanceof DOMException || error instanceof SyntaxError) return null;
    throw error;
  }
}

export function isHere(hostname) {
  return hostname === "localhost" || hostname === "[::1]" || hostname.startsWith("127.");
}

/** A QR code as one black path on white, in dark as in light: cameras expect it so. */
function picture(code) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const size = code.size + 2 * QUIET;
  svg.setAttribute("viewBox", `${-QUIET} ${-QUIET} ${size} ${size}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", squares(code));
  svg.append(path);
  return svg;
}

function squares(code) {
  const found = [];
  for (let y = 0; y < code.size; y++) {
    for (let x = 0; x < code.size; x++) if (code.get(x, y)) found.push(`M${x} ${y}h1v1h-1z`);
  }
  return found.join("");
}

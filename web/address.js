// Where the servers are: behind the page's own origin, or at the two ports of a host named in ?ws=.

const PORTS = { transcription_port: 6006, speech_port: 8888 };

/**
 * `page`: the page's address. Returns {host, transcription, audio, health}; `host` is null when it is
 * the page's own, `health` is null where another origin could not be asked.
 */
export function serverAddress(page) {
  const url = new URL(page);
  const direct = url.searchParams.get("ws");
  return direct ? atPorts(url, direct) : atOrigin(url);
}

function atOrigin(page) {
  const socket = (path) => {
    const url = new URL(path, page);
    url.protocol = page.protocol === "https:" ? "wss:" : "ws:";
    url.search = url.hash = "";
    return url.href;
  };
  return {
    host: null,
    transcription: socket("transcription"),
    audio: socket("audio"),
    health: new URL("healthz", page).href.replace(/[?#].*/, ""),
  };
}

function atPorts(page, direct) {
  // A page that came over https may open no other socket than wss.
  const secure = page.protocol === "https:" || direct.startsWith("wss:");
  const server = new URL(`${secure ? "wss" : "ws"}://${direct.replace(/^\w+:\/\//, "")}`);
  const socket = (name) => {
    const url = new URL("/", server);
    url.port = page.searchParams.get(name) ?? PORTS[name];
    return url.href;
  };
  return {
    host: server.hostname,
    transcription: socket("transcription_port"),
    audio: socket("speech_port"),
    health: null,
  };
}

/** The secret that the startup banner carries after the `#`, where browsers keep it to themselves. */
export function tokenOf(page) {
  return new URLSearchParams(new URL(page).hash.slice(1)).get("token") ?? "";
}

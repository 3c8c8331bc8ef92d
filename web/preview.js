// A sample of a voice: asked for over a connection of its own, see docs/protocol.md.

const PATIENCE = 60000; // ms; a voice may be fetched first
const REFUSED = 1008;

/**
 * Ask for a sample. `address`: of the audio port; `key`: for one connection to it; `protocols`: see
 * connection.js; `voice` and `language` may be "". Returns its sound as ArrayBuffers of float32 at 24 kHz; empty where it could not be made.
 */
export function sample(address, { key, protocols, voice, language }, { WebSocket } = globalThis) {
  const url = new URL(address);
  for (const [name, value] of Object.entries({ key, preview: 1, voice, language })) {
    if (value) url.searchParams.set(name, value);
  }
  const socket = new WebSocket(url.href, protocols);
  socket.binaryType = "arraybuffer";
  const sound = [];
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.close(), PATIENCE);
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) sound.push(data);
    };
    socket.onclose = ({ code }) => {
      clearTimeout(timer);
      resolve(code === REFUSED ? [] : sound);
    };
  });
}

// Unpacks the Chromium that its npm package carries, where tests/browser/chromium.py looks for it.
import { mkdirSync } from 'node:fs';

const folder = new URL('node_modules/.chromium/', import.meta.url).pathname;
mkdirSync(folder, { recursive: true });
process.env.TMPDIR = folder; // the package unpacks into the folder for temporary files
const { default: chromium } = await import('@sparticuz/chromium');
await chromium.executablePath();

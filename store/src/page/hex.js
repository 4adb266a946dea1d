// The bytes of a text in UTF-8, sixteen in a line: offset, hexadecimal digits, printable characters.

const BYTES_MAX = 16 * 1024;
const WIDTH = 16;

export function hex(text) {
  const all = new TextEncoder().encode(text.slice(0, BYTES_MAX));
  const bytes = all.subarray(0, BYTES_MAX);
  const lines = [];
  for (let at = 0; at < bytes.length; at += WIDTH) {
    const part = [...bytes.subarray(at, at + WIDTH)];
    const digits = part.map((byte) => byte.toString(16).padStart(2, '0')).join(' ').padEnd(WIDTH * 3 - 1);
    const printable = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '·')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${digits}  ${printable}`);
  }
  if (bytes.length < all.length || text.length > BYTES_MAX) lines.push(`… the first ${BYTES_MAX} bytes`);
  return lines.join('\n');
}

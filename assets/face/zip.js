// Files as one zip, stored without compression (APPNOTE 4.3: local headers, central directory, end record). Only
// headers are made; the files themselves stay where they are until the blob is sent.
(() => {
  const CRC = Uint32Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k += 1) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n >>> 0; });
  const crc32 = (bytes) => { let crc = ~0; for (let k = 0; k < bytes.length; k += 1) crc = CRC[(crc ^ bytes[k]) & 255] ^ (crc >>> 8); return ~crc >>> 0; };
  // Little-endian numbers of 2 or 4 bytes.
  const packed = (...fields) => {
    const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 0)));
    let at = 0;
    for (const [size, value] of fields) { if (size === 2) view.setUint16(at, value, true); else view.setUint32(at, value, true); at += size; }
    return view.buffer;
  };
  const VERSION = 20, UTF8 = 0x0800, STORED = 0, TIME = 0, DATE = 0x0021; // 1980-01-01: the pictures' dates are nobody's business

  // files: [{name, file}], less than 4 GB and 65,536 in all. `progress(done, total)` counts files.
  studio.zip = async (files, progress = () => {}) => {
    const parts = [], entries = [];
    let place = 0, length = 0;
    for (const [index, { name, file }] of files.entries()) {
      const title = new TextEncoder().encode(name), crc = crc32(new Uint8Array(await file.arrayBuffer()));
      const common = [[2, VERSION], [2, UTF8], [2, STORED], [2, TIME], [2, DATE], [4, crc], [4, file.size], [4, file.size], [2, title.length], [2, 0]];
      const head = packed([4, 0x04034b50], ...common);
      const entry = packed([4, 0x02014b50], [2, VERSION], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, place]);
      parts.push(head, title, file);
      entries.push(entry, title);
      place += head.byteLength + title.length + file.size;
      length += entry.byteLength + title.length;
      progress(index + 1, files.length);
    }
    const end = packed([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, place], [2, 0]);
    return new Blob([...parts, ...entries, end], { type: "application/zip" });
  };
})();

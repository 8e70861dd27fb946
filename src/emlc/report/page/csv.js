// Read and write comma-separated values as in RFC 4180.

const csv = {
  write(rows) {
    const cell = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
  },

  /** Read rows of cells, with any line ends. Throws an Error that names the line of a quote that is not closed. */
  read(text) {
    const rows = [];
    let row = [];
    let cell = "";
    let quoted = false;
    let line = 1;
    let opened = 0;
    const endRow = () => {
      row.push(cell);
      if (row.length > 1 || cell !== "") rows.push(row);
      row = [];
      cell = "";
    };
    for (let k = text.charCodeAt(0) === 0xfeff ? 1 : 0; k < text.length; k += 1) {
      const c = text[k];
      if (c === "\n") line += 1;
      if (quoted) {
        if (c !== '"') cell += c;
        else if (text[k + 1] === '"') {
          cell += c;
          k += 1;
        } else quoted = false;
      } else if (c === '"' && cell === "") {
        quoted = true;
        opened = line;
      } else if (c === ",") {
        row.push(cell);
        cell = "";
      } else if (c === "\n" || c === "\r") {
        if (c === "\r" && text[k + 1] === "\n") {
          k += 1;
          line += 1;
        }
        endRow();
      } else cell += c;
    }
    if (quoted) throw new Error(`a quoted cell that begins in line ${opened} has no end`);
    endRow();
    return rows;
  },
};

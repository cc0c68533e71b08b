// Sends each line it reads by WebSocket, and prints what comes back; says when it is connected, and how it ends.
const { createInterface } = require("readline");
const { WebSocket } = require("ws");

const [url, host] = process.argv.slice(2);
const socket = new WebSocket(url, { headers: { Host: host }, perMessageDeflate: { threshold: 0 } });
socket.on("open", () => {
  console.log(`open ${socket.extensions}`);
  createInterface({ input: process.stdin })
    .on("line", (line) => socket.send(line))
    .on("close", () => socket.close(1000));
});
socket.on("message", (text) => console.log(`${text}`));
socket.on("error", (error) => console.log(`error ${error.message}`));
socket.on("close", (code, reason) => {
  console.log(`closed ${code} ${reason}`);
  process.exit();
});

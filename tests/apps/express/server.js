// Its release, at once or line by line, and an echo of what comes by WebSocket.
const express = require("express");
const { readFileSync } = require("fs");
const { WebSocketServer } = require("ws");

const release = readFileSync("VERSION", "utf8").trim();
const app = express();

app.get("/info", (_, response) => response.send(release));
app.get("/slow", async (_, response) => {
  response.type("text/plain");
  for (let line = 0; line < 15; line++) {
    response.write(`${release}\n`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  response.end();
});

const server = app.listen(process.env.PORT, () => console.log("listens"));
const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: { threshold: 0 } });
sockets.on("connection", (socket) =>
  socket.on("message", (text) => socket.send(`${release} ${text}`))
);

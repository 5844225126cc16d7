// Node's own server: what came is said back, with its nonce. Bodies are read where one is expected, by POST and PUT, and nowhere else.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  let length = 0;
  const reply = () => {
    console.log(`seen ${request.method} ${request.url}`);
    const body = `nonce=${request.headers["x-nonce"]} target=${request.url} length=${length}\n`;
    response.writeHead(200, { "Content-Length": body.length });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  if (!["POST", "PUT"].includes(request.method)) return reply();
  request.on("data", (piece) => (length += piece.length));
  request.on("end", reply);
});
server.listen(Number(process.argv[2]), "127.0.0.1");

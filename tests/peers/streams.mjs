// Many HTTP/2 streams on one connection with prior knowledge: `streams.mjs URL TAG COUNT`.
import assert from "node:assert";
import http2 from "node:http2";

const [url, tag, count] = process.argv.slice(2);
const session = http2.connect(url);

function exchange(path, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": "POST", ":path": path, "x-ephemwork": tag });
    let [head, text, trailers] = [null, "", null];
    stream.setEncoding("utf8");
    stream.on("response", (fields) => (head = fields));
    stream.on("trailers", (fields) => (trailers = fields));
    stream.on("data", (piece) => (text += piece));
    stream.on("end", () => resolve({ head, text, trailers }));
    stream.on("error", reject);
    stream.end(body);
  });
}

// A stream that is given up must not disturb the others.
const endless = session.request({ ":path": "/endless", "x-ephemwork": tag });
await new Promise((resolve) => endless.once("data", resolve));
endless.close(http2.constants.NGHTTP2_CANCEL);

const all = Array.from({ length: Number(count) }, (_, number) => {
  const body = `${number} `.repeat(1 + ((number * 997) % 20000));
  return exchange(`/${number}`, body).then(({ head, text, trailers }) => {
    assert.equal(head[":status"], 200);
    assert.equal(head["x-ephemwork-served-by"], tag);
    assert.equal(text, `/${number} ${body}`);
    assert.equal(trailers["x-sum"], String(body.length));
  });
});
await Promise.all(all);

// What the edge answers itself, on the same connection.
const bare = session.request({ ":path": "/" });
const head = await new Promise((resolve) => bare.once("response", resolve));
assert.equal(head[":status"], 404);
assert.equal(head["x-ephemwork-served-by"], "edge; reason=no-tag");
bare.close();
session.close();
console.log("all", count);

// catalog: what is for sale. It asks orders every few seconds what sells best. catalog.py is the same without Node.
import { createServer } from 'node:http';

const HOST = '127.0.0.1';
const PORT = Number(process.env.PORT ?? 9103);
const ORDERS = process.env.ORDERS_URL ?? 'http://127.0.0.1:9102';

const goods = new Map();
for (let n = 1; n <= 12; n++) goods.set(`sku-${n}`, { sku: `sku-${n}`, name: `Thing ${n}`, price: 25 });
let popular = [];

function page(path) {
  if (path === '/healthz') return [200, { status: 'ok' }];
  if (path === '/catalog' || path === '/catalog/') return [200, { goods: [...goods.keys()], popular }];
  const found = path.startsWith('/catalog/') && goods.get(path.slice('/catalog/'.length));
  return found ? [200, found] : [404, { error: 'no such page' }];
}

const server = createServer((request, response) => {
  const known = ['GET', 'HEAD'].includes(request.method);
  const [status, value] = known ? page(request.url.split('?')[0]) : [405, { error: 'read only' }];
  const content = JSON.stringify(value) + '\n';
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(content) });
  response.end(content);
});

async function followOrders() {
  try {
    const answer = await fetch(`${ORDERS}/orders/popular`, { signal: AbortSignal.timeout(5000) });
    const value = await answer.json();
    popular = answer.ok ? value : [];
  } catch {
    popular = [];
  }
}

server.on('error', (error) => {
  console.error(`catalog: cannot listen on ${HOST}:${PORT}: ${error.message}`);
  process.exit(1);
});
server.listen(PORT, HOST, () => {
  console.error(`catalog: listening on ${HOST}:${PORT}`);
  setInterval(followOrders, 3000);
});
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeAllConnections();
  });
}

// An identity provider for tests, on loopback: node server.mjs PORT REDIRECT-URI. Whoever types a login is it.
// It takes one word a line: "rotate" makes a new signing key and forgets the old one, "demote" takes ann out of all groups,
// "down" closes the port, "up" opens it again, "issued" adds the refresh and access tokens that there were to its answer, as
// JSON. Each is answered with a line of the same word.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import http from 'node:http';
import readline from 'node:readline';

import Provider from 'oidc-provider';
import { createMemoryAdapter } from 'oidc-provider/lib/adapters/memory_adapter.js';

const [port, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

function key() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

const claims = {
  ann: { groups: ['ops', 'dev'], email: 'Ann@corp.example', email_verified: true },
  bob: { groups: [] },
  eve: { groups: ['<img src=x onerror=pwned=1>', '"><script>pwned=1</script>'] },
};

const adapter = createMemoryAdapter(); // sign-ins outlive a new key
const issued = [];

function provider() {
  const p = new Provider(issuer, {
    adapter,
    clients: [{
      client_id: 'sallyport',
      client_secret: 'a secret of the tests',
      redirect_uris: [redirect],
      post_logout_redirect_uris: [new URL('/bye', redirect).href],
      grant_types: ['authorization_code', 'refresh_token'],
      require_auth_time: true,
    }],
    jwks: { keys: [key()] },
    cookies: { keys: ['of the tests'] },
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email', 'email_verified'] },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id, ...claims[id] }) }),
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    pkce: { required: () => true },
    ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  });
  for (const kind of ['refresh_token', 'access_token']) {
    p.on(`${kind}.saved`, (token) => issued.push(token.jti)); // which an opaque one is
  }
  p.on('server_error', (ctx, err) => console.error(err));
  return p.callback();
}

let answer = provider();
const server = http.createServer((req, res) => answer(req, res));
const listen = (then) => server.listen(Number(port), '127.0.0.1', then);
const say = (word) => process.stdout.write(`${word}\n`);

listen(() => say('up'));
readline.createInterface({ input: process.stdin }).on('line', (word) => {
  switch (word) {
    case 'rotate':
      answer = provider();
      say(word);
      break;
    case 'demote':
      claims.ann.groups = [];
      say(word);
      break;
    case 'issued':
      say(`${word} ${JSON.stringify(issued)}`);
      break;
    case 'down':
      server.close(() => say(word));
      server.closeAllConnections();
      break;
    case 'up':
      listen(() => say(word));
      break;
    default:
      console.error(`what is ${word}?`);
  }
}).on('close', () => process.exit(0));

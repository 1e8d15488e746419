// The gateway's answers. The token is kept for this tab alone, and sent in a header that no other site can send.

const TOKEN = "bff.admin.token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(`-/${path}`, {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
  });
  if (!answer.ok) throw new Refused(answer.status, await reason(answer));
  return answer;
}

async function reason(answer) {
  const text = await answer.text();
  try {
    const { detail } = JSON.parse(text);
    return typeof detail === "string" ? detail : detail.map((each) => each.msg).join("; ");
  } catch {
    return text || `The gateway answered ${answer.status}`;
  }
}

export const json = async (path, options) => (await ask(path, options)).json();
export const text = async (path) => (await ask(path)).text();

const SILENCE = 5000;

// Calls `take` with each snapshot until the stream ends or falls silent; throws what ended it.
export async function follow(take) {
  const ending = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => ending.abort(), SILENCE);
  };
  try {
    alive();
    const answer = await ask("live", { signal: ending.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("The gateway ended the stream");
      alive();
      const events = (kept + value).split("\n\n");
      kept = events.pop();
      for (const event of events) if (event.startsWith("data: ")) take(JSON.parse(event.slice("data: ".length)));
    }
  } finally {
    clearTimeout(timer);
    ending.abort();
  }
}

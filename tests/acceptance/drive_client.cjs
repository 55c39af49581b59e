// Calls every method that the TypeScript client has for our operations, and asserts what comes back; the counterpart of
// drive_client.py. Run by test_official_clients.py: `node drive_client.cjs CLIENT_FOLDER URL PROXY_URL`. On success it
// prints which methods were called and which were left out, as JSON.

'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');

const [clientFolder, url, proxyUrl] = process.argv.slice(2);
const moduleFolder = path.join(clientFolder, 'node_modules', 'llama-stack-client');
const LlamaStackClient = require(moduleFolder);
const { version } = require(path.join(moduleFolder, 'package.json'));

const AREAS = [
  'beta.datasets', 'alpha.benchmarks', 'alpha.eval', 'alpha.eval.jobs', 'alpha.inference', 'alpha.admin', 'scoring',
  'scoringFunctions', 'models', 'models.openai', 'providers', 'routes', 'inspect', 'chat.completions', 'completions',
];
// Completions that a server has stored: ours stores none.
const NOT_OURS = ['chat.completions.list', 'chat.completions.retrieve'];
const PREFIX = `v${version}-ts`;

const resource = (client, area) => area.split('.').reduce((found, name) => found[name], client);

const noted = new Set();
const methods = new Set();

function watched(client) {
  for (const area of AREAS) {
    const target = resource(client, area);
    for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(target))) {
      const called = `${area}.${name}`;
      if (name === 'constructor' || NOT_OURS.includes(called)) continue;
      methods.add(called);
      const method = target[name].bind(target);
      target[name] = (...args) => {
        noted.add(called);
        return method(...args);
      };
    }
  }
  return client;
}

// Their own minute is short for a busy machine that loads its first model.
const timeout = 180_000;
const client = watched(new LlamaStackClient({ baseURL: url, maxRetries: 0, timeout }));
const patient = new LlamaStackClient({ baseURL: proxyUrl, maxRetries: 2, timeout });

const sums = (start, count) =>
  Array.from({ length: count }, (_, i) => ({
    question: `${start + i} + ${start + i + 1}`,
    answer: String(2 * (start + i) + 1),
  }));
const candidate = (model) => ({
  eval_candidate: { type: 'model', model, sampling_params: { strategy: { type: 'greedy' } } },
});
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(get, status, seconds = 120) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await get();
    if (found.status === status) return found;
    assert.ok(['scheduled', 'in_progress'].includes(found.status), found.status);
    assert.ok(Date.now() < deadline, found.status);
    await pause(100);
  }
}

async function refused(kind, promise) {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, String(error));
    return error;
  }
  throw new Error(`no ${kind.name}`);
}

const DATASET = { dataset_id: `${PREFIX}/sums`, purpose: 'eval/question-answer' };

async function datasets() {
  const { datasets } = client.beta;
  const registered = await datasets.register({ ...DATASET, source: { type: 'rows', rows: sums(0, 3) } });
  assert.equal(registered.identifier, DATASET.dataset_id);
  assert.ok((await datasets.list()).some((dataset) => dataset.identifier === DATASET.dataset_id));
  await datasets.appendrows(DATASET.dataset_id, { rows: sums(3, 2) });
  assert.equal((await datasets.retrieve(DATASET.dataset_id)).metadata.num_rows, 5);
  const page = await datasets.iterrows(DATASET.dataset_id, { start_index: 1, limit: 3 });
  assert.deepEqual([page.data, page.has_more], [sums(1, 3), true]);
  assert.deepEqual((await datasets.iterrows(DATASET.dataset_id)).data, sums(0, 5));
  const gone = await datasets.register({ purpose: DATASET.purpose, source: { type: 'rows', rows: sums(0, 1) } });
  await datasets.unregister(gone.identifier);
  const error = await refused(LlamaStackClient.NotFoundError, datasets.retrieve(gone.identifier));
  assert.ok(error.error.detail.includes(gone.identifier));
}

async function evaluation() {
  const { benchmarks, eval: evaluator } = client.alpha;
  const name = `${PREFIX}/bench`;
  const functions = ['basic::equality'];
  await benchmarks.register({ benchmark_id: name, dataset_id: DATASET.dataset_id, scoring_functions: functions });
  assert.ok((await benchmarks.list()).some((benchmark) => benchmark.identifier === name));
  assert.deepEqual((await benchmarks.retrieve(name)).scoring_functions, functions);

  const job = await evaluator.runEval(name, { benchmark_config: candidate('sums-1') });
  assert.equal(job.status, 'scheduled');
  await until(() => evaluator.jobs.status(name, job.job_id), 'completed');
  const result = await evaluator.jobs.retrieve(name, job.job_id);
  assert.equal(result.generations[1].generated_answer, '3');
  assert.equal(result.scores['basic::equality'].aggregated_results.accuracy.accuracy, 1);

  const again = await evaluator.runEvalAlpha(name, { benchmark_config: candidate('sums-1') });
  await evaluator.jobs.cancel(name, again.job_id);
  assert.equal((await evaluator.jobs.status(name, again.job_id)).status, 'cancelled');
  const body = {
    benchmark_config: candidate('sums-1'),
    input_rows: [...sums(0, 1), { question: 'what?', answer: '42' }],
    scoring_functions: functions,
  };
  for (const evaluate of [evaluator.evaluateRows, evaluator.evaluateRowsAlpha]) {
    const scores = (await evaluate(name, body)).scores['basic::equality'].score_rows;
    assert.deepEqual(scores.map((row) => row.score), [1, 0]);
  }
  const unknown = evaluator.runEval(name, { benchmark_config: candidate('nobody') });
  const error = await refused(LlamaStackClient.BadRequestError, unknown);
  assert.ok(error.error.errors[0].pointer.endsWith('/eval_candidate/model'));
  await benchmarks.unregister(name);
  await refused(LlamaStackClient.NotFoundError, benchmarks.retrieve(name));
}

async function scoring() {
  const functions = client.scoringFunctions;
  const judge = `${PREFIX}-judge`;
  const params = {
    type: 'llm_as_judge',
    judge_model: 'judge-1',
    prompt_template: 'Rate {generated_answer}.',
    judge_score_regexes: ['Total rating: (\\d)'],
    aggregation_functions: ['average'],
  };
  await functions.register({ scoring_fn_id: judge, description: 'J.', return_type: { type: 'number' }, params });
  assert.ok((await functions.list()).some((found) => found.identifier === judge));
  assert.equal((await functions.retrieve(judge)).params.judge_model, 'judge-1');
  const rows = ['a', 'b'].map((text) => ({ input_query: '1', generated_answer: text, expected_answer: 'a' }));
  const choice = { 'basic::equality': null, [judge]: params };
  const { results } = await client.scoring.score({ input_rows: rows, scoring_functions: choice });
  assert.deepEqual(results['basic::equality'].score_rows.map((row) => row.score), [1, 0]);
  assert.equal(results[judge].aggregated_results.average.average, 4);
  const answers = `${PREFIX}/answers`;
  await client.beta.datasets.register({ ...DATASET, dataset_id: answers, source: { type: 'rows', rows } });
  const batch = await client.scoring.scoreBatch({ dataset_id: answers, scoring_functions: choice });
  assert.deepEqual(batch.results['basic::equality'], results['basic::equality']);
  await functions.unregister(judge);
  await refused(LlamaStackClient.NotFoundError, functions.retrieve(judge));
}

async function inference() {
  const items = ['Yeast makes bread rise.', "The Moon's gravity makes the tides.", { type: 'text', text: 'A violin.' }];
  const query = 'Why does the sea rise and fall?';
  const ranked = await client.alpha.inference.rerank({ model: 'minilm', query, items, max_num_results: 2 });
  assert.deepEqual([ranked.length, ranked[0].index], [2, 1]);
  const chat = { model: 'sums-1', messages: [{ role: 'user', content: '3 + 4' }] };
  assert.equal((await client.chat.completions.create(chat)).choices[0].message.content, '7');
  let streamed = '';
  for await (const piece of await client.chat.completions.create({ ...chat, stream: true })) {
    streamed += piece.choices[0]?.delta.content ?? '';
  }
  assert.equal(streamed, '7');
  const knobs = { model: 'tiny', prompt: 'one two', max_tokens: 4, temperature: 0 };
  const { text } = (await client.completions.create(knobs)).choices[0];
  streamed = '';
  for await (const piece of await client.completions.create({ ...knobs, stream: true })) {
    streamed += piece.choices[0]?.text ?? '';
  }
  assert.equal(streamed, text);
}

async function support() {
  assert.ok((await client.models.list()).some((model) => model.id === 'sums-1'));
  assert.ok((await client.models.openai.list()).some((model) => model.id === 'minilm'));
  assert.equal((await client.models.retrieve('tiny')).provider_id, 'local');
  const { admin } = client.alpha;
  assert.equal((await client.inspect.health()).status, 'OK');
  assert.equal((await admin.health()).status, 'OK');
  assert.equal((await admin.version()).version, (await client.inspect.version()).version);
  assert.ok((await client.routes.list()).some((route) => route.route === '/v1beta/datasets'));
  assert.equal((await admin.listRoutes()).length, (await client.routes.list()).length);
  for (const list of [client.providers.list, admin.listProviders]) {
    assert.deepEqual((await list()).map((provider) => provider.provider_id), ['local', 'lab']);
  }
  assert.equal((await client.providers.retrieve('lab')).provider_type, 'remote::openai');
  assert.equal((await admin.inspectProvider('local')).provider_id, 'local');
}

// The client repeats by itself what may be repeated; test_official_clients.py asserts how often each came.
async function retries() {
  const dataset_id = `${PREFIX}/retries`;
  const body = { ...DATASET, dataset_id, source: { type: 'rows', rows: sums(0, 3) } };
  const headers = (what, kind = 'X-Count', more = {}) => ({ headers: { [kind]: `${PREFIX} ${what}`, ...more } });
  const { datasets } = patient.beta;
  await datasets.register(body, headers('register', 'X-Cut'));
  const other = { ...body, source: { type: 'rows', rows: sums(0, 1) } };
  await refused(LlamaStackClient.ConflictError, datasets.register(other, headers('conflict')));
  await refused(LlamaStackClient.NotFoundError, datasets.retrieve('nowhere', headers('not found')));
  const key = (name) => ({ 'Idempotency-Key': `${PREFIX}-${name}` });
  await datasets.appendrows(dataset_id, { rows: sums(3, 2) }, headers('append', 'X-Cut', key('append')));
  assert.deepEqual((await client.beta.datasets.iterrows(dataset_id)).data, sums(0, 5));
  const chat = { model: 'down', messages: [{ role: 'user', content: '3 + 4' }] };
  await refused(LlamaStackClient.InternalServerError, patient.chat.completions.create(chat, headers('down')));
  const benchmark_id = `${PREFIX}/retried`;
  await client.alpha.benchmarks.register({ benchmark_id, dataset_id, scoring_functions: ['basic::equality'] });
  const run = { benchmark_config: candidate('sums-1') };
  const job = await patient.alpha.eval.runEval(benchmark_id, run, headers('run_eval', 'X-Cut', key('eval')));
  const same = await patient.alpha.eval.runEval(benchmark_id, run, { headers: key('eval') });
  assert.equal(same.job_id, job.job_id);
}

async function main() {
  for (const scenario of [support, datasets, scoring, evaluation, inference, retries]) await scenario();
  const leftOut = [...methods].filter((name) => !noted.has(name));
  console.log(JSON.stringify({ version, called: [...noted].sort(), left_out: leftOut.sort() }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

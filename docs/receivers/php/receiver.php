<?php

// A receiver of webhooks in PHP.
//
//   WEBHOOK_SECRET='the secret of the webhook' php -S 127.0.0.1:4567 receiver.php

declare(strict_types=1);

const MAX_BODY = 4 * 1024 * 1024; // a form is up to three times as long as its payload
const MAX_SEEN = 10_000;
const MAX_DEPTH = 10_000; // PHP's own is 512

http_response_code(500); // what the sender sees when anything below fails: it will send again
http_response_code(receive());

function receive(): int
{
    $secret = (string) getenv('WEBHOOK_SECRET');
    if ($secret === '') {
        error_log('receiver: WEBHOOK_SECRET is not set: without it anyone could send events');
        return 500;
    }
    if ($_SERVER['REQUEST_METHOD'] !== 'POST' || $_SERVER['REQUEST_URI'] !== '/api/callback') {
        return 404;
    }
    // The signature covers the bytes of the body as they came. $_POST is what PHP
    // made of them.
    $body = (string) file_get_contents('php://input', length: MAX_BODY + 1);
    if (strlen($body) > MAX_BODY) {
        return 413;
    }
    $expected = 'sha256=' . hash_hmac('sha256', $body, $secret);
    // hash_equals takes the same time wherever the two differ.
    if (!hash_equals($expected, $_SERVER['HTTP_X_CLUBMED_SIGNATURE'] ?? '')) {
        return 401;
    }
    $delivery = $_SERVER['HTTP_X_CLUBMED_DELIVERY'] ?? '';
    $payload = read_payload($_SERVER['CONTENT_TYPE'] ?? '', $body);
    if (!preg_match('/^[A-Za-z0-9_-]{1,64}$/D', $delivery) || $payload === null) {
        return 400;
    }
    once($_SERVER['HTTP_X_CLUBMED_EVENT'] ?? '', $delivery, $payload);
    return 204;
}

/** The bytes of the JSON, or null when there is none. */
function read_payload(string $contentType, string $body): ?string
{
    $payload = $body;
    if (str_starts_with($contentType, 'application/x-www-form-urlencoded')) {
        parse_str($body, $form);
        $payload = $form['payload'] ?? '';
    }
    if (!is_string($payload)) {
        return null;
    }
    json_decode($payload, true, MAX_DEPTH);
    // PHP does not decode half of a surrogate pair, "\ud800", which is JSON all the same.
    return in_array(json_last_error(), [JSON_ERROR_NONE, JSON_ERROR_UTF16], true) ? $payload : null;
}

/**
 * Records a delivery, unless it is one that was recorded before and is sent
 * again. PHP keeps nothing from one request to the next, so the newest
 * deliveries stand in a file, oldest first; two copies that come at the same
 * time wait for its lock. Where you have a database, a column with a unique
 * index does the same.
 */
function once(string $event, string $delivery, string $payload): void
{
    $file = fopen(getenv('WEBHOOK_SEEN') ?: sys_get_temp_dir() . '/webhook-seen', 'c+b');
    flock($file, LOCK_EX);
    $seen = explode("\n", stream_get_contents($file));
    if (!in_array($delivery, $seen, true)) {
        record($event, $delivery, $payload);
        $seen = array_slice([...$seen, $delivery], -MAX_SEEN);
        ftruncate($file, 0);
        rewind($file);
        fwrite($file, implode("\n", $seen));
    }
    fclose($file);
}

/**
 * Stands for writing the event to your database or queue: soon done, and done
 * before the answer, since after a 2xx the event is not sent again. The work that
 * follows from the event belongs behind that queue, not here.
 */
function record(string $event, string $delivery, string $payload): void
{
    $line = json_encode([
        'event' => $event,
        'delivery' => $delivery,
        'bytes' => strlen($payload),
        'sha256' => hash('sha256', $payload),
    ], JSON_THROW_ON_ERROR);
    file_put_contents('php://stdout', $line . "\n");
}

/* A TFLite delegate for tests: it takes all nodes of one operator and has the runtime's own kernels compute them, or
 * does harm instead. Custom operators, for which there are no kernels, copy their first input.
 *
 * Options (all are texts):
 *   take   number of the operator (BuiltinOperator of the schema); without it no node is taken
 *   harm   "wrong" (outputs come out mirrored), "fail", "hang", "crash": what an inference does; "batch": a batch of
 *          more than one fails; "unprepared": what preparing does
 *   when   harm is done only as long as there is a file of this name; without it always
 *
 * The structures are those of the plugin interface, as far as a delegate looks at them:
 * https://ai.google.dev/edge/litert/performance/implementing_delegate,
 * https://www.tensorflow.org/lite/api_docs/c. Fields that are not looked at are there for the sake of the others.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DONE = 0, FAILED = 1, MOST_NODES = 64, CUSTOM = 32, ALLOWS_DYNAMIC_TENSORS = 1 };

struct context;
struct node;

struct numbers {
    int count;
    int values[];
};

struct tensor {
    int type;
    char *content;
    struct numbers *shape;
    float scale;
    int32_t zero_point;
    int allocated;
    size_t size;
    const void *mapping;
    const char *name;
    void *delegate;
    int buffer;
    bool stale, variable;
    int quantization_kind;
    void *quantization, *sparsity;
    const struct numbers *shape_signature;
};

struct node {
    struct numbers *inputs, *outputs, *intermediates, *temporaries;
    void *state, *parameters;
    const void *custom;
    int custom_size;
    void *delegate;
    bool side_effect;
};

struct kernel {
    void *(*begin)(struct context *, const char *, size_t);
    void (*end)(struct context *, void *);
    int (*prepare)(struct context *, struct node *);
    int (*invoke)(struct context *, struct node *);
    void *describe;
    int32_t operator;
    const char *name;
    int version;
    void *external, *asynchronous;
    uint64_t in_place;
};

struct delegate {
    void *data;
    int (*prepare)(struct context *, struct delegate *);
    void *copy_from, *copy_to, *release;
    int64_t flags;
    void *builder;
};

struct context {
    size_t tensor_count;
    int (*get_plan)(struct context *, struct numbers **);
    struct tensor *tensors;
    void *runtime, *resize, *report, *add_tensors;
    int (*get_node)(struct context *, int, struct node **, struct kernel **);
    int (*replace)(struct context *, struct kernel, const struct numbers *, struct delegate *);
};

/* What the runtime hands to `begin` of a kernel that stands for nodes of the model. */
struct part {
    struct delegate *delegate;
    struct numbers *nodes, *inputs, *outputs;
};

struct taken {
    int count;
    struct node nodes[MOST_NODES];
    struct kernel kernels[MOST_NODES];
};

static int take = -1;
static const char *harm = "", *when = "";

static bool does(const char *what) {
    return strcmp(harm, what) == 0 && (!*when || access(when, F_OK) == 0);
}

static void *begin(struct context *context, const char *given, size_t size) {
    const struct part *part = (const struct part *)given;
    struct taken *taken = calloc(1, sizeof *taken);
    (void)size;
    for (int i = 0; i < part->nodes->count && i < MOST_NODES; i++) {
        struct node *node;
        struct kernel *kernel;
        context->get_node(context, part->nodes->values[i], &node, &kernel);
        taken->nodes[i] = *node;
        taken->kernels[i] = *kernel;
        taken->count++;
    }
    return taken;
}

static void end(struct context *context, void *taken) {
    (void)context;
    free(taken);
}

static int prepare_kernel(struct context *context, struct node *node) {
    struct taken *taken = node->state;
    for (int i = 0; i < taken->count; i++) {
        struct kernel *kernel = &taken->kernels[i];
        if (kernel->operator == CUSTOM || !kernel->prepare) continue;
        if (kernel->prepare(context, &taken->nodes[i]) != DONE) return FAILED;
    }
    return DONE;
}

static int copy(struct context *context, struct node *node) {
    const struct tensor *from = &context->tensors[node->inputs->values[0]];
    const struct tensor *to = &context->tensors[node->outputs->values[0]];
    if (from->size != to->size) return FAILED;
    memcpy(to->content, from->content, to->size);
    return DONE;
}

static int invoke(struct context *context, struct node *node) {
    struct taken *taken = node->state;
    if (does("fail")) return FAILED;
    if (does("batch") && context->tensors[node->inputs->values[0]].shape->values[0] > 1) return FAILED;
    if (does("crash")) *(volatile int *)0 = 1;
    while (does("hang")) usleep(10000);
    for (int i = 0; i < taken->count; i++) {
        struct kernel *kernel = &taken->kernels[i];
        if ((kernel->operator == CUSTOM ? copy : kernel->invoke)(context, &taken->nodes[i]) != DONE) return FAILED;
    }
    if (does("wrong"))
        for (int i = 0; i < node->outputs->count; i++) {
            struct tensor *tensor = &context->tensors[node->outputs->values[i]];
            for (size_t a = 0, b = tensor->size - 1; a < b; a++, b--) {
                char kept = tensor->content[a];
                tensor->content[a] = tensor->content[b];
                tensor->content[b] = kept;
            }
        }
    return DONE;
}

static int prepare(struct context *context, struct delegate *delegate) {
    struct kernel kernel = {.begin = begin, .end = end, .prepare = prepare_kernel, .invoke = invoke};
    struct numbers *plan, *wanted;
    int outcome = DONE;
    if (does("unprepared") || context->get_plan(context, &plan) != DONE) return FAILED;
    wanted = malloc(sizeof *wanted + sizeof(int) * (size_t)plan->count);
    wanted->count = 0;
    for (int i = 0; i < plan->count; i++) {
        struct node *node;
        struct kernel *found;
        if (context->get_node(context, plan->values[i], &node, &found) == DONE && found->operator == take)
            wanted->values[wanted->count++] = plan->values[i];
    }
    kernel.name = "test delegate";
    kernel.version = 1;
    if (wanted->count) outcome = context->replace(context, kernel, wanted, delegate);
    free(wanted);
    return outcome;
}

struct delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                               void (*report)(const char *)) {
    struct delegate *delegate = calloc(1, sizeof *delegate);
    (void)report;
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(keys[i], "take")) take = atoi(values[i]);
        if (!strcmp(keys[i], "harm")) harm = strdup(values[i]);
        if (!strcmp(keys[i], "when")) when = strdup(values[i]);
    }
    delegate->prepare = prepare;
    /* Else the runtime prepares all nodes before it asks for those to take, also those that it has no kernels for. */
    if (take == CUSTOM) delegate->flags = ALLOWS_DYNAMIC_TENSORS;
    return delegate;
}

void tflite_plugin_destroy_delegate(struct delegate *delegate) { free(delegate); }

/* One function per kernel for harness.c, which includes this file: parameters from a case's scalars and blobs. The
 * numbers of the ops are those of case.py. */

static int32_t check_scratch(int32_t predicted, int32_t needed)
{
    return (predicted == needed) ? 0 : 1;
}

static int32_t run_conv(const qc_case *c, int8_t *y, void *scratch)
{
    const qc_conv2d_s8_params p = take_conv(c);
    if (check_scratch(c->scratch_bytes, qc_conv2d_s8_scratch_bytes(&p)) != 0) {
        return 1;
    }
    qc_conv2d_s8((const int8_t *)c->b[0], y, &p, scratch);
    return 0;
}

static int32_t run_conv_add(const qc_case *c, int8_t *y, void *scratch)
{
    const qc_conv2d_s8_params p = take_conv(c);
    const qc_add_params a = take_add(c);
    const int32_t in_place = take32(c);
    const int8_t *residual = (const int8_t *)c->b[5];
    if (check_scratch(c->scratch_bytes, qc_conv2d_add_s8_scratch_bytes(&p)) != 0) {
        return 1;
    }
    if (in_place != 0) {
        (void)memcpy(y, residual, (size_t)c->result_bytes);
        residual = y;
    }
    qc_conv2d_add_s8((const int8_t *)c->b[0], residual, y, &p, &a, scratch);
    return 0;
}

static int32_t run_depthwise(const qc_case *c, int8_t *y, void *scratch)
{
    qc_depthwise_conv2d_s8_params p;
    p.window = take_window(c);
    p.rescale = take_rescale(c, 2);
    p.weights = c->b[1];
    p.input_zero_point = take(c);
    p.channel_block = take(c);
    p.row_block = take(c);
    if (check_scratch(c->scratch_bytes, qc_depthwise_conv2d_s8_scratch_bytes(&p)) != 0) {
        return 1;
    }
    qc_depthwise_conv2d_s8((const int8_t *)c->b[0], y, &p, scratch);
    return 0;
}

static int32_t run_fully_connected(const qc_case *c, int8_t *y, void *scratch)
{
    qc_fully_connected_s8_params p;
    p.rows = take32(c);
    p.in_features = take32(c);
    p.out_features = take32(c);
    p.rescale = take_rescale(c, 2);
    p.weights = c->b[1];
    p.columns = take(c);
    p.weight_bits = take(c);
    p.y_bits = take(c);
    if (check_scratch(c->scratch_bytes, qc_fully_connected_s8_scratch_bytes(&p)) != 0) {
        return 1;
    }
    qc_fully_connected_s8((const int8_t *)c->b[0], y, &p, scratch);
    return 0;
}

static int32_t run_max_pool(const qc_case *c, int8_t *y)
{
    const qc_max_pool_params p = {take_window(c)};
    if (c->op == 5) {
        qc_max_pool_s8((const int8_t *)c->b[0], y, &p);
    } else {
        qc_max_pool_s16((const int16_t *)c->b[0], (int16_t *)(void *)y, &p);
    }
    return 0;
}

static int32_t run_avg_pool(const qc_case *c, int8_t *y)
{
    qc_avg_pool_s8_params p;
    p.window = take_window(c);
    p.multiplier = take32(c);
    p.shift = take(c);
    p.input_zero_point = take(c);
    p.zero_point = take(c);
    p.qmin = take(c);
    p.qmax = take(c);
    qc_avg_pool_s8((const int8_t *)c->b[0], y, &p);
    return 0;
}

static int32_t run_elementwise(const qc_case *c, int8_t *y)
{
    const int32_t count = take32(c);
    const int32_t period = take32(c);
    const int8_t *a = (const int8_t *)c->b[0];
    if (c->op == 7) {
        const qc_add_params p = take_add(c);
        qc_add_s8(a, (const int8_t *)c->b[1], y, count, period, &p);
    } else {
        const qc_mul_params p = take_mul(c);
        if (c->op == 8) {
            qc_mul_s8(a, (const int8_t *)c->b[1], y, count, period, &p);
        } else {
            qc_requantize_s8(a, y, count, &p);
        }
    }
    return 0;
}

static int32_t run_requantize_s32(const qc_case *c, int8_t *y)
{
    const int32_t rows = take32(c);
    const int32_t channels = take32(c);
    const qc_rescale_params p = take_rescale(c, 1);
    qc_requantize_s32_s8((const int32_t *)c->b[0], y, rows, channels, &p);
    return 0;
}

static int32_t run_scale_channels(const qc_case *c, int8_t *y)
{
    const int32_t rows = take32(c);
    const int32_t channels = take32(c);
    const qc_rescale_params p = take_rescale(c, 2);
    qc_scale_channels_s8((const int8_t *)c->b[0], y, rows, channels, (const int8_t *)c->b[1], &p);
    return 0;
}

static int32_t run_pad(const qc_case *c, int8_t *y)
{
    qc_pad_s8_params p;
    p.in_height = take(c);
    p.in_width = take(c);
    p.channels = take(c);
    p.pad_top = take(c);
    p.pad_left = take(c);
    p.pad_bottom = take(c);
    p.pad_right = take(c);
    p.value = take(c);
    qc_pad_s8((const int8_t *)c->b[0], y, &p);
    return 0;
}

static int32_t run_copy(const qc_case *c, int8_t *y)
{
    const int32_t rows = take32(c);
    const int32_t bytes = take32(c);
    const int32_t from = take32(c);
    qc_copy(c->b[0], y, rows, bytes, from, take32(c));
    return 0;
}

static int32_t run_transpose(const qc_case *c, int8_t *y)
{
    qc_transpose_params p;
    for (int32_t i = 0; i < 4; i++) {
        p.shape[i] = take32(c);
    }
    for (int32_t i = 0; i < 4; i++) {
        p.axes[i] = (int8_t)take(c);
    }
    p.bytes = take32(c);
    qc_transpose(c->b[0], y, &p);
    return 0;
}

static int32_t run_matmul(const qc_case *c, int8_t *y, void *scratch)
{
    qc_matmul_s8_params p;
    p.rows = take32(c);
    p.inner = take32(c);
    p.columns = take32(c);
    p.multiplier = take32(c);
    p.shift = take(c);
    p.a_zero_point = take(c);
    p.b_zero_point = take(c);
    p.zero_point = take(c);
    p.qmin = take(c);
    p.qmax = take(c);
    p.y_bits = take(c);
    p.a_stride = take32(c);
    p.b_step = take32(c);
    p.b_apart = take32(c);
    p.y_stride = take32(c);
    if (check_scratch(c->scratch_bytes, qc_matmul_s8_scratch_bytes(&p)) != 0) {
        return 1;
    }
    qc_matmul_s8((const int8_t *)c->b[0], (const int8_t *)c->b[1], y, &p, scratch);
    return 0;
}

static int32_t run_softmax_lookup(const qc_case *c, int8_t *y)
{
    qc_softmax_lookup_params p;
    p.rows = take32(c);
    p.length = take32(c);
    p.mask_rows = take32(c);
    p.table = (const int16_t *)c->b[1];
    p.table_length = take32(c);
    p.zero_point = take32(c);
    if (c->op == 16) {
        qc_softmax_lookup_s8((const int8_t *)c->b[0], y, (const uint8_t *)c->b[2], &p);
    } else {
        qc_softmax_lookup_s16((const int16_t *)c->b[0], y, (const uint8_t *)c->b[2], &p);
    }
    return 0;
}

static int32_t run_log2_softmax(const qc_case *c, int8_t *y)
{
    qc_log2_softmax_params p;
    p.rows = take32(c);
    p.length = take32(c);
    p.mask_rows = take32(c);
    p.table = (const int16_t *)c->b[1];
    p.table_length = take32(c);
    p.x_bits = take32(c);
    qc_log2_softmax(c->b[0], (int16_t *)(void *)y, (const uint8_t *)c->b[2], &p);
    return 0;
}

static int32_t run_shift_sigmoid(const qc_case *c, int8_t *y)
{
    qc_shift_sigmoid_params p;
    const int32_t count = take32(c);
    p.unit = take32(c);
    p.multiplier = take32(c);
    p.shift = take(c);
    p.bits = take(c);
    p.gate_bits = take(c);
    p.form = take(c);
    p.input_zero_point = take(c);
    p.zero_point = take(c);
    p.qmin = take(c);
    p.qmax = take(c);
    p.x_bits = take(c);
    p.y_bits = take(c);
    qc_shift_sigmoid(c->b[0], y, count, &p);
    return 0;
}

static int32_t run_logical_and(const qc_case *c, int8_t *y)
{
    const int32_t count = take32(c);
    qc_logical_and((const uint8_t *)c->b[0], (const uint8_t *)c->b[1], (uint8_t *)y, count, take32(c));
    return 0;
}

static int32_t run_where(const qc_case *c, int8_t *y)
{
    qc_where_params p;
    p.count = take32(c);
    p.condition_period = take32(c);
    p.a_period = take32(c);
    p.b_period = take32(c);
    p.bits = take32(c);
    qc_where((const uint8_t *)c->b[2], c->b[0], c->b[1], y, &p);
    return 0;
}

static int32_t run_gather(const qc_case *c, int8_t *y)
{
    const int32_t *at = c->s;
    qc_gather_rows(c->b[0], (const int32_t *)c->b[1], y, at[0], at[1], at[2]);
    return 0;
}

static int32_t run_shiftmax(const qc_case *c, int8_t *y)
{
    qc_shiftmax_params p;
    p.rows = take32(c);
    p.length = take32(c);
    p.mask_rows = take32(c);
    p.unit = take32(c);
    p.bits = take32(c);
    p.reciprocal = take32(c);
    p.x_bits = take32(c);
    p.zero_point = take32(c);
    p.qmin = take32(c);
    p.qmax = take32(c);
    qc_shiftmax(c->b[0], y, (const uint8_t *)c->b[1], &p);
    return 0;
}

static qc_widths take_widths(const qc_case *c)
{
    qc_widths w;
    w.a = (int8_t)take(c);
    w.b = (int8_t)take(c);
    w.y = (int8_t)take(c);
    return w;
}

static int32_t run_wide(const qc_case *c, int8_t *y)
{
    const int32_t count = take32(c);
    const int32_t period = take32(c);
    if (c->op == 19) {
        const qc_add_params p = take_add(c);
        qc_add_s16(c->b[0], c->b[1], y, count, period, &p, take_widths(c));
    } else {
        const qc_mul_params p = take_mul(c);
        if (c->op == 20) {
            qc_mul_s16(c->b[0], c->b[1], y, count, period, &p, take_widths(c));
        } else {
            qc_requantize_s16(c->b[0], y, count, &p, take_widths(c));
        }
    }
    return 0;
}

static int32_t run_lookup_interpolated(const qc_case *c, int8_t *y)
{
    qc_lookup_interpolated_params p;
    const int32_t count = take32(c);
    p.table = (const int16_t *)c->b[1];
    p.shift = take(c);
    p.zero_point = take(c);
    p.qmin = take(c);
    p.qmax = take(c);
    p.y_bits = take(c);
    qc_lookup_interpolated_s16((const int16_t *)c->b[0], y, count, &p);
    return 0;
}

static int32_t run_mean(const qc_case *c, int8_t *y)
{
    const int32_t outer = take32(c);
    const int32_t count = take32(c);
    const int32_t inner = take32(c);
    const qc_mul_params p = take_mul(c);
    qc_mean_s16(c->b[0], y, outer, count, inner, &p, take_widths(c));
    return 0;
}

static int32_t run_normalize(const qc_case *c, int8_t *y)
{
    qc_normalize_params p;
    p.rows = take32(c);
    p.length = take32(c);
    p.weight = (const int32_t *)c->b[1];
    p.bias = (const int64_t *)c->b[2];
    const uint32_t low = (uint32_t)take32(c);
    p.eps = (int64_t)(((uint64_t)(uint32_t)take32(c) << 32) | low);
    p.fraction = take(c);
    p.shift = take(c);
    p.input_zero_point = take(c);
    p.zero_point = take(c);
    p.qmin = take(c);
    p.qmax = take(c);
    p.centre = take(c);
    p.x_bits = take(c);
    p.y_bits = take(c);
    qc_normalize_s16(c->b[0], y, &p);
    return 0;
}

static int32_t run_op(const qc_case *c, int8_t *y, void *scratch)
{
    switch (c->op) {
    case 1:
        return run_conv(c, y, scratch);
    case 2:
        return run_conv_add(c, y, scratch);
    case 3:
        return run_depthwise(c, y, scratch);
    case 4:
        return run_fully_connected(c, y, scratch);
    case 5:
        return run_max_pool(c, y);
    case 6:
        return run_avg_pool(c, y);
    case 7:
    case 8:
    case 9:
        return run_elementwise(c, y);
    case 10:
        return run_requantize_s32(c, y);
    case 11:
        return run_pad(c, y);
    case 12:
        return run_copy(c, y);
    case 13:
        return run_transpose(c, y);
    case 14:
        qc_lookup_s8((const int8_t *)c->b[0], y, c->result_bytes, (const int8_t *)c->b[1]);
        return 0;
    case 15:
        return run_matmul(c, y, scratch);
    case 16:
    case 17:
        return run_softmax_lookup(c, y);
    case 18:
        return run_shiftmax(c, y);
    case 19:
    case 20:
    case 21:
        return run_wide(c, y);
    case 22:
        qc_lookup_s8_s16((const int8_t *)c->b[0], (int16_t *)(void *)y, take32(c), (const int16_t *)c->b[1]);
        return 0;
    case 23:
        return run_lookup_interpolated(c, y);
    case 24:
        return run_normalize(c, y);
    case 25:
        return run_mean(c, y);
    case 26:
        return run_log2_softmax(c, y);
    case 27:
        return run_shift_sigmoid(c, y);
    case 28:
        return run_gather(c, y);
    case 29:
        qc_not_zero((const int32_t *)c->b[0], (uint8_t *)y, c->result_bytes);
        return 0;
    case 30:
        return run_logical_and(c, y);
    case 31:
        return run_max_pool(c, y);
    case 32:
        return run_scale_channels(c, y);
    case 33:
        return run_where(c, y);
    default:
        return 3;
    }
}
